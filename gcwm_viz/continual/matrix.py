"""All steps of one matrix: geometry, merge, state and signals. Matrices are independent of each other.

Shape suffixes: o = d_out, i = d_in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gcwm_viz.checkpoints.reader import check_finite
from gcwm_viz.continual.config import ContinualConfig, RunSettings
from gcwm_viz.continual.kept import tensors_of
from gcwm_viz.continual.member import Angles, Member
from gcwm_viz.continual.memory import ANCHOR, ActiveSet, active_set
from gcwm_viz.continual.rows import (
    NAN,
    Row,
    barycenter_rows,
    geometry_row,
    pair_rows,
    reason,
    signal_row,
    solver_rows,
    spectrum_rows,
)
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.layer import cross_norms, geometry_of
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, difference, norm, scaled, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
from gcwm_viz.merging.gcwm import LayerMerge, blend
from gcwm_viz.merging.registry import Outcome, get_method
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.merging.wudi import PlainMerge
from gcwm_viz.signals.pairwise import Pairs
from gcwm_viz.signals.state import incoming_conflict, state_signals
from gcwm_viz.updates.matrices import MatrixKey


@dataclass
class MatrixResult:
    """Rows for the tables ``matrices``, ``pairs``, ``spectra``, ``barycenter`` and ``solver``, and tensors to keep.

    ``tensors``: the branches of every step, or what the method gives, as :mod:`gcwm_viz.continual.kept` names them.
    """

    rows: dict[str, list[Row]] = field(
        default_factory=lambda: {"matrices": [], "pairs": [], "spectra": [], "barycenter": [], "solver": []}
    )
    tensors: dict[str, Tensor] = field(default_factory=dict)


def process_matrix(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    states: Sequence[Update | None] | None = None,
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
    states: Sequence[Update | None] | None,
) -> MatrixResult:
    config = settings.gcwm
    members = [Member.of(name, delta, config) for name, delta in zip(names, deltas, strict=True)]
    overlap = _overlaps(members)
    angles, pairs = Angles(), Pairs(config)
    device = next((member.delta.device for member in members if member.delta is not None), torch.device("cpu"))
    thin = all(member.delta is None or isinstance(member.delta, LowRank) for member in members)
    state: Update = _nothing(key.shape, device) if thin else torch.zeros(key.shape, device=device)
    state_subspace: RightSubspace | None = None
    previous: Update | None = None
    memory: dict[str, float] = {}
    result = MatrixResult()
    for step, arriving in enumerate(members, start=1):
        active = active_set(step, settings.continual)
        anchor = Member.of(ANCHOR, previous, config) if active.anchored else None
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
            state = _nothing(key.shape, device) if given is None else given.to(device=device, dtype=torch.float32)
            state = state if thin else dense(state)
            outcome = state
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
            merged = _single(outcome).to(device=device)  # where nothing is active yet, zeros of no device
            for part in (merged.left_or, merged.right_ri) if isinstance(merged, LowRank) else (merged,):
                check_finite(part, f"matrix {key.name!r}: the merge of step {step} ({arriving.name})")
            state = integrate(state if step > 1 else None, merged, previous, settings.continual, step)
            previous = merged
        state_subspace = (
            right_subspace(state, config.analysis_rank, config.analysis_energy) if squared_norm(state) > 0 else None
        )
        analysis = [member.analysis for member in present if member.analysis is not None]
        signals = state_signals(analysis, state_subspace, config, pairs)
        place = {"step": step, "matrix": key.name, "layer": key.layer, "family": key.family}
        result.rows["matrices"].append(
            place
            | {"update": arriving.name, "d_out": key.shape[0], "d_in": key.shape[1], "active": len(present)}
            | geometry_row(geometry, outcome, states is not None)
            | signal_row(signals, incoming, sar)
            | {
                "update_norm": arriving.analysis.total_energy**0.5 if arriving.analysis is not None else 0.0,
                "merged_norm": norm(previous if previous is not None else state),
                "increment_norm": norm(difference(state, before)),
                "state_norm": norm(state),
            }
            | {"reason": reason(geometry, arriving, step)}
        )
        result.rows["pairs"] += [
            place | row
            for row in pair_rows(present, geometry, signals, sar, state_subspace, state, incoming, arriving, angles)
        ]
        result.rows["spectra"] += [place | row for row in spectrum_rows(present, geometry, state_subspace)]
        result.rows["barycenter"] += [place | row for row in barycenter_rows(geometry)]
        result.rows["solver"] += [place | row for row in solver_rows(outcome)]
        if step < len(members) and settings.continual.keep == "last":
            continue
        if isinstance(outcome, LayerMerge):
            kept = {"plain": outcome.plain, "geo": outcome.geo}
        else:
            kept = {"merged": _single(outcome)}
        for name, update in kept.items():
            result.tensors |= tensors_of(name, step, update)
    return result


def _nothing(shape: tuple[int, int], device: torch.device) -> LowRank:
    return LowRank(torch.zeros(shape[0], 0, device=device), torch.zeros(0, shape[1], device=device))


def integrate(
    state: Update | None, merged: Update, previous: Update | None, continual: ContinualConfig, step: int
) -> Update:
    """S_t = S_{t−1} + η_t (Δ_merge,t − Δ_merge,t−1), both zero before the first step (Sec. 4.3).

    With constant η the sum telescopes to ηΔ_merge,t, which needs no earlier step and rounds once.
    """
    if continual.decay == 1.0:
        return scaled(merged, continual.eta)
    change = dense(merged) if previous is None else dense(merged) - dense(previous)
    eta = continual.step_eta(step)
    return eta * change if state is None else torch.add(dense(state), change, alpha=eta)


def _single(outcome: Outcome) -> Update:
    """Δ_merge from branches rounded to float32, as they are kept on disk and read back."""
    single = torch.float32
    if isinstance(outcome, LayerMerge):
        return blend(outcome.plain.to(dtype=single), outcome.geo.to(dtype=single), outcome.alpha, outcome.mode)
    return (outcome.merged if isinstance(outcome, PlainMerge) else outcome).to(dtype=single)


def _overlaps(members: Sequence[Member]) -> Tensor:
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
    present: Sequence[Member], active: ActiveSet, members: Sequence[Member], overlap: Tensor, anchor: Member | None
) -> Tensor:
    if anchor is not None:  # the anchor is new at every step
        return cross_norms([m.delta for m in present if m.delta is not None], [m.analysis for m in present])
    index = torch.tensor([i for i in active.indices if members[i].delta is not None], dtype=torch.long)
    return overlap[index[:, None], index[None, :]]
