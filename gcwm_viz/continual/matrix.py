"""All steps of one matrix: geometry, merge, state and signals. Matrices are independent of each other.

Shape suffixes: o = d_out, i = d_in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.reader import check_finite
from gcwm_viz.continual.config import ContinualConfig, RunSettings
from gcwm_viz.continual.memory import ANCHOR, ActiveSet, active_set
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import LayerGeometry, cross_norms, geometry_of
from gcwm_viz.linalg.lowrank import Update, squared_norm, vector_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
from gcwm_viz.merging.gcwm import LayerMerge, blend
from gcwm_viz.merging.plain import PlainMerge
from gcwm_viz.merging.registry import Outcome, get_method
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.merging.wudi import Solution
from gcwm_viz.signals.pairwise import Pairs, mean_pair, principal_angles, symmetric_sar
from gcwm_viz.signals.state import StateSignals, incoming_conflict, state_signals
from gcwm_viz.updates.matrices import MatrixKey

NAN = float("nan")
STATE = "state"
Row = dict[str, Any]


@dataclass
class MatrixResult:
    """Rows for the tables ``matrices``, ``pairs``, ``spectra``, ``barycenter`` and ``solver``, and tensors to keep.

    ``tensors``: ``plain.T`` and ``geo.T`` per step T where the method has branches, else ``merged.T``; float32.
    """

    rows: dict[str, list[Row]] = field(
        default_factory=lambda: {"matrices": [], "pairs": [], "spectra": [], "barycenter": [], "solver": []}
    )
    tensors: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Member:
    """One member of an active set with its geometry, computed once and used at every step that it is active."""

    name: str
    delta: Update | None
    analysis: RightSubspace | None
    gate: RightSubspace | None

    @classmethod
    def of(cls, name: str, delta: Update | None, config: GCWMConfig) -> "_Member":
        if delta is None or squared_norm(delta) == 0:
            return cls(name, None, None, None)
        full = right_subspace(delta, max(config.rank, config.analysis_rank), max(config.energy, config.analysis_energy))
        return cls(
            name,
            delta,
            full.truncate(config.analysis_rank, config.analysis_energy),
            full.truncate(config.rank, config.energy),
        )


def process_matrix(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    states: Sequence[Tensor | None] | None = None,
) -> MatrixResult:
    """Run every step of one matrix.

    ``deltas``: Δ of each update in arrival order, None where it does not touch the matrix. ``states``: given S_t of a
    training pipeline, which are then described instead of merged.

    Raises :class:`InputError` where a merge is not finite or a decomposition fails, naming the matrix.
    """
    try:
        return _all_steps(key, names, deltas, settings, states)
    except torch.linalg.LinAlgError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"matrix {key.name!r}: its updates cannot be decomposed ({reason}); expected updates of an ordinary scale"
        ) from None


def _all_steps(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    states: Sequence[Tensor | None] | None,
) -> MatrixResult:
    config = settings.gcwm
    members = [_Member.of(name, delta, config) for name, delta in zip(names, deltas, strict=True)]
    overlap = _overlaps(members)
    angles, pairs = _Angles(), Pairs(config)
    device = next((member.delta.device for member in members if member.delta is not None), torch.device("cpu"))
    state = torch.zeros(key.shape, device=device)
    state_subspace: RightSubspace | None = None
    previous: Tensor | None = None
    memory: dict[str, float] = {}
    result = MatrixResult()
    for step, arriving in enumerate(members, start=1):
        active = active_set(step, settings.continual)
        anchor = _Member.of(ANCHOR, previous, config) if active.anchored else None
        chosen = [anchor] * (anchor is not None) + [members[index] for index in active.indices]
        present = [member for member in chosen if member is not None and member.delta is not None]
        weights = [
            weight
            for member, weight in zip(chosen, active.weights, strict=True)
            if member is not None and member.delta is not None
        ]
        sar = _sar(present, active, members, overlap, anchor)
        geometry = geometry_of([member.gate for member in present], sar, weights, config)
        outcome: Outcome
        incoming = incoming_conflict(state_subspace, arriving.analysis, config, pairs)
        before = state
        if states is not None:
            given = states[step - 1]
            outcome = state = torch.zeros_like(state) if given is None else given.to(device, torch.float32)
        else:
            merge_step = MergeStep(
                deltas=[member.delta for member in present if member.delta is not None],
                # The anchor is another matrix at every step, and a random mask of it must be another one too.
                names=[f"{ANCHOR} {step}" if member is anchor else member.name for member in present],
                weights=weights,
                geometry=geometry,
                previous=previous,
                arriving=arriving.delta,
                norms=[m.analysis.total_energy**0.5 for m in members[:step] if m.analysis is not None],
                matrix=key.name,
                shape=key.shape,
                options=settings.options,
                memory=memory,
            )
            outcome = get_method(settings.method).merge(merge_step, config)
            merged = _single(outcome)
            check_finite(merged, f"matrix {key.name!r}: the merge of step {step} ({arriving.name})")
            state = integrate(state if step > 1 else None, merged, previous, settings.continual, step)
            previous = merged
        state_subspace = (
            right_subspace(state, config.analysis_rank, config.analysis_energy) if bool(state.any()) else None
        )
        analysis = [member.analysis for member in present if member.analysis is not None]
        signals = state_signals(analysis, state_subspace, config, pairs)
        place = {"step": step, "matrix": key.name, "layer": key.layer, "family": key.family}
        result.rows["matrices"].append(
            place
            | {"update": arriving.name, "d_out": key.shape[0], "d_in": key.shape[1], "active": len(present)}
            | _geometry_row(geometry, outcome, states is not None)
            | _signal_row(signals, incoming, sar)
            | {
                "update_norm": arriving.analysis.total_energy**0.5 if arriving.analysis is not None else 0.0,
                "merged_norm": vector_norm(previous if previous is not None else state),
                "increment_norm": vector_norm(state - before),
                "state_norm": vector_norm(state),
            }
            | {"reason": _reason(geometry, arriving, step, len(names))}
        )
        result.rows["pairs"] += [
            place | row
            for row in _pair_rows(present, geometry, signals, sar, state_subspace, state, incoming, arriving, angles)
        ]
        result.rows["spectra"] += [place | row for row in _spectrum_rows(present, geometry, state_subspace)]
        result.rows["barycenter"] += [place | row for row in _barycenter_rows(geometry)]
        result.rows["solver"] += [place | row for row in _solver_rows(outcome)]
        if step < len(members) and settings.continual.keep == "last":
            continue
        if isinstance(outcome, LayerMerge):
            result.tensors[f"plain.{step}"] = outcome.plain.float().cpu()
            result.tensors[f"geo.{step}"] = outcome.geo.float().cpu()
        else:
            result.tensors[f"merged.{step}"] = _single(outcome).cpu().contiguous()
    return result


def integrate(
    state: Tensor | None, merged: Tensor, previous: Tensor | None, continual: ContinualConfig, step: int
) -> Tensor:
    """S_t = S_{t−1} + η_t (Δ_merge,t − Δ_merge,t−1), both zero before the first step (Sec. 4.3).

    With constant η the sum telescopes to ηΔ_merge,t, which needs no earlier step and rounds once.
    """
    if continual.decay == 1.0:
        return continual.eta * merged
    change = merged if previous is None else merged - previous
    eta = continual.step_eta(step)
    return eta * change if state is None else torch.add(state, change, alpha=eta)


def _single(outcome: Outcome) -> Tensor:
    """Δ_merge from branches rounded to float32, as they are kept on disk and read back."""
    if isinstance(outcome, LayerMerge):
        return blend(outcome.plain.float(), outcome.geo.float(), outcome.alpha, outcome.mode)
    return (outcome.merged if isinstance(outcome, PlainMerge) else outcome).float()


def _overlaps(members: Sequence[_Member]) -> Tensor:
    """SAR [i→j] between all updates, (K, K), computed once; NaN for absent ones."""
    k = len(members)
    table = torch.full((k, k), NAN, dtype=torch.float64)
    index = [i for i, member in enumerate(members) if member.delta is not None]
    if index:
        present = [members[i] for i in index]
        values = cross_norms([m.delta for m in present if m.delta is not None], [m.analysis for m in present])
        table[torch.tensor(index)[:, None], torch.tensor(index)[None, :]] = values
    return table


def _sar(
    present: Sequence[_Member], active: ActiveSet, members: Sequence[_Member], overlap: Tensor, anchor: _Member | None
) -> Tensor:
    if anchor is not None:  # the anchor is new at every step
        return cross_norms([m.delta for m in present if m.delta is not None], [m.analysis for m in present])
    index = torch.tensor([i for i in active.indices if members[i].delta is not None], dtype=torch.long)
    return overlap[index[:, None], index[None, :]]


def _geometry_row(geometry: LayerGeometry, outcome: Outcome, trained: bool) -> Row:
    center = geometry.barycenter
    row: Row = {
        "conflict": geometry.conflict,
        "alpha": NAN,
        "mode": "trained" if trained else "merged",
        "displacement": NAN,
        "plain_shift": NAN,
        "geo_shift": NAN,
        "plain_objective": NAN,
        "geo_objective": NAN,
        "plain_minimum": NAN,
        "geo_minimum": NAN,
        "solver_iterations": 0,
        "solver_residual": NAN,
        "solver_converged": True,
    }
    if geometry.metric is None:
        row["mode"] = "absent"
    elif isinstance(outcome, LayerMerge) and outcome.plain_solution and outcome.geo_solution:
        solutions = (outcome.plain_solution, outcome.geo_solution)
        row |= {
            "alpha": geometry.alpha,
            "mode": geometry.mode,
            "displacement": outcome.displacement,
            "plain_shift": outcome.plain_shift,
            "geo_shift": outcome.geo_shift,
            "plain_objective": _ratio(solutions[0].path),
            "geo_objective": _ratio(solutions[1].path),
            "plain_minimum": solutions[0].minimum,
            "geo_minimum": solutions[1].minimum,
            "solver_iterations": max(solution.iterations for solution in solutions),
            "solver_residual": max(solution.residual for solution in solutions),
            "solver_converged": all(solution.converged for solution in solutions),
        }
    elif isinstance(outcome, PlainMerge) and outcome.solution:
        row |= {
            "plain_shift": outcome.shift,
            "plain_objective": _ratio(outcome.solution.path),
            "plain_minimum": outcome.solution.minimum,
            "solver_iterations": outcome.solution.iterations,
            "solver_residual": outcome.solution.residual,
            "solver_converged": outcome.solution.converged,
        }
    shares = geometry.lambda_shares[~geometry.lambda_shares.isnan()]
    return row | {
        "center_mismatch": geometry.center_mismatch,
        "union_rank": geometry.union_rank,
        "lam": geometry.lam,
        "lambda_share": float(shares.max()) if len(shares) else NAN,
        "barycenter_iterations": center.iterations if center else 0,
        "barycenter_residual": center.residual if center else NAN,
        "barycenter_converged": center.converged if center else True,
    }


def _ratio(path: Sequence[tuple[int, float, float]]) -> float:
    """Objective at the end over objective at the plain sum; NaN where it starts at zero."""
    return path[-1][1] / path[0][1] if path[0][1] > 0 else NAN


def _signal_row(signals: StateSignals, incoming: float, sar: Tensor) -> Row:
    return {
        "active_conflict": signals.active_conflict,
        "state_conflict": signals.state_conflict,
        "state_gap": signals.state_gap,
        "global_active": signals.global_active,
        "global_with_state": signals.global_with_state,
        "global_gap": signals.global_gap,
        "incoming_conflict": incoming,
        "sar": mean_pair(symmetric_sar(sar)),
    }


def _reason(geometry: LayerGeometry, arriving: _Member, step: int, total: int) -> str:
    reasons = [geometry.reason] if geometry.reason else []
    if step == 1:
        reasons.append("no state before the first step, so no incoming conflict")
    elif arriving.delta is None:
        reasons.append(f"update {arriving.name} does not touch this matrix, so no incoming conflict")
    return "; ".join(reasons)


def _pair_rows(
    present: Sequence[_Member],
    geometry: LayerGeometry,
    signals: StateSignals,
    sar: Tensor,
    state_subspace: RightSubspace | None,
    state: Tensor,
    incoming: float,
    arriving: _Member,
    angles: "_Angles",
) -> list[Row]:
    rows = []
    for i, first in enumerate(present):
        rows += [
            _pair("active", first.name, present[j].name, float(signals.active_mm[i, j]))
            | {
                "gate_conflict": float(geometry.pairwise_conflict[i, j]),
                "sar_ij": float(sar[i, j]),
                "sar_ji": float(sar[j, i]),
                "principal_angles": angles.between(first, present[j]),
            }
            for j in range(i + 1, len(present))
        ]
    missing = "" if state_subspace is not None else "the state is exactly zero in this matrix"
    for i, member in enumerate(present):
        row = _pair(STATE, member.name, STATE, float(signals.state_m[i]), missing)
        if state_subspace is not None and member.delta is not None:
            both = cross_norms([member.delta, state], [member.analysis, state_subspace])
            row |= {"sar_ij": float(both[0, 1]), "sar_ji": float(both[1, 0])}
        rows.append(row)
    if incoming == incoming:
        rows.append(_pair("incoming", arriving.name, STATE, incoming))
    return rows


def _pair(kind: str, i: str, j: str, conflict: float, reason: str = "") -> Row:
    return {
        "kind": kind,
        "i": i,
        "j": j,
        "conflict": conflict,
        "gate_conflict": NAN,
        "sar_ij": NAN,
        "sar_ji": NAN,
        "principal_angles": [],
        "reason": reason,
    }


class _Angles:
    """Principal angles between gate subspaces, computed once for every two of them.

    They are known by identity, because the anchor of every step is another one, and therefore kept.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[RightSubspace, RightSubspace, list[float]]] = {}

    def between(self, first: _Member, second: _Member) -> list[float]:
        if first.gate is None or second.gate is None:
            return []
        place = id(first.gate), id(second.gate)
        if place not in self._known:
            angles = [round(angle, 4) for angle in principal_angles(first.gate, second.gate)]
            self._known[place] = first.gate, second.gate, angles
        return self._known[place][2]


def _barycenter_rows(geometry: LayerGeometry) -> list[Row]:
    center = geometry.barycenter
    if center is None:
        return []
    first = center.iterations + 1 - len(center.residuals)  # a residual at the start is listed by some iterations only
    return [{"iteration": first + at, "residual": residual} for at, residual in enumerate(center.residuals)]


def _spectrum_rows(present: Sequence[_Member], geometry: LayerGeometry, state: RightSubspace | None) -> list[Row]:
    rows: list[Row] = []

    def add(source: str, kind: str, eigenvalues: Tensor) -> None:
        rows.append(
            {
                "source": source,
                "kind": kind,
                "eigenvalues": [float(value) for value in eigenvalues],
                "union_rank": geometry.union_rank,
                "lam": geometry.lam,
            }
        )

    for member, spectrum, rank in zip(present, geometry.spectra, geometry.retained_ranks, strict=True):
        add(member.name, "update", spectrum[:rank])  # the rest of the union basis is λ
    if geometry.metric is not None:
        add("mean", "mean", geometry.mean_spectrum)
        if geometry.barycenter is not None:
            add("barycenter", "barycenter", geometry.barycenter_spectrum)
    if state is not None:
        add(STATE, STATE, state.energies_r)
    return rows


def _solver_rows(outcome: Outcome) -> list[Row]:
    rows = []
    branches: list[tuple[str, Solution | None]] = []
    if isinstance(outcome, LayerMerge):
        branches = [("plain", outcome.plain_solution), ("geo", outcome.geo_solution)]
    elif isinstance(outcome, PlainMerge):
        branches = [("plain", outcome.solution)]
    for branch, solution in branches:
        if solution is not None:
            rows += [
                {
                    "branch": branch,
                    "iteration": iteration,
                    "objective": objective,
                    "shift": shift,
                    "relative_shift": shift / solution.start_norm if solution.start_norm > 0 else NAN,
                }
                for iteration, objective, shift in solution.path
            ]
    return rows
