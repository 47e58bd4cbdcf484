"""One step of one matrix as rows of the tables; ``tables.py`` documents the columns."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gcwm_viz.continual.member import Angles, Member
from gcwm_viz.geometry.layer import LayerGeometry, cross_norms
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.linalg.subspace import RightSubspace
from gcwm_viz.merging.gcwm import LayerMerge
from gcwm_viz.merging.registry import Outcome
from gcwm_viz.merging.solvers import Solution
from gcwm_viz.merging.wudi import PlainMerge
from gcwm_viz.signals.pairwise import mean_pair, symmetric_sar
from gcwm_viz.signals.state import StateSignals

NAN = float("nan")
STATE = "state"
Row = dict[str, Any]


def geometry_row(geometry: LayerGeometry, outcome: Outcome, trained: bool) -> Row:
    """Gate, branches, solver and barycenter of one step; NaN where the method has none."""
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


def signal_row(signals: StateSignals, incoming: float, sar: Tensor) -> Row:
    """The signals of one step (Sec. 3)."""
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


def reason(geometry: LayerGeometry, arriving: Member, step: int) -> str:
    """Why values of a step are undefined, or empty."""
    reasons = [geometry.reason] if geometry.reason else []
    if step == 1:
        reasons.append("no state before the first step, so no incoming conflict")
    elif arriving.delta is None:
        reasons.append(f"update {arriving.name} does not touch this matrix, so no incoming conflict")
    return "; ".join(reasons)


def pair_rows(
    present: Sequence[Member],
    geometry: LayerGeometry,
    signals: StateSignals,
    sar: Tensor,
    state_subspace: RightSubspace | None,
    state: Update,
    incoming: float,
    arriving: Member,
    angles: Angles,
) -> list[Row]:
    """Rows of ``pairs``: active updates among themselves, each with the state, the arriving one with S_{t−1}."""
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


def barycenter_rows(geometry: LayerGeometry) -> list[Row]:
    """Rows of ``barycenter``: the residual of every iteration."""
    center = geometry.barycenter
    if center is None:
        return []
    first = center.iterations + 1 - len(center.residuals)  # a residual at the start is listed by some iterations only
    return [{"iteration": first + at, "residual": residual} for at, residual in enumerate(center.residuals)]


def spectrum_rows(present: Sequence[Member], geometry: LayerGeometry, state: RightSubspace | None) -> list[Row]:
    """Rows of ``spectra``: updates, mean, barycenter and state."""
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


def solver_rows(outcome: Outcome) -> list[Row]:
    """Rows of ``solver``: the objective along the iterations of each branch."""
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
