"""All steps of one matrix: geometry, merge and state. Matrices are independent of each other."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gcwm_viz.checkpoints.reader import check_finite
from gcwm_viz.continual.active_set import ActiveSet, active_set
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.sequence import ContinualConfig
from gcwm_viz.geometry.layer import cross_norms, geometry_of
from gcwm_viz.geometry.member import ANCHOR, Member
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, scaled, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
from gcwm_viz.merging.merge import Merge
from gcwm_viz.merging.registry import get_method
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.signals.pairwise import Angles, Pairs
from gcwm_viz.signals.state import incoming_conflict, state_signals
from gcwm_viz.signals.step import Step
from gcwm_viz.updates.matrices import MatrixKey


def steps(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    states: Sequence[Update | None] | None = None,
) -> Iterator[Step]:
    """Every step of one matrix in order.

    ``deltas``: Δ of each update in arrival order, None where it does not touch the matrix. ``states``: S_t of a
    training pipeline, which are then described; nothing is merged.

    Raises :class:`InputError` where a merge is not finite, naming the matrix.
    """
    config = settings.gcwm
    members = [Member.of(name, delta, config) for name, delta in zip(names, deltas, strict=True)]
    overlap = _overlaps(members)
    angles, pairs = Angles(), Pairs(config)
    device = next((member.delta.device for member in members if member.delta is not None), torch.device("cpu"))
    factored = all(member.delta is None or isinstance(member.delta, LowRank) for member in members)
    state: Update = _factored_zero(key.shape, device) if factored else torch.zeros(key.shape, device=device)
    subspace: RightSubspace | None = None
    previous: Update | None = None
    carried: dict[str, float] = {}
    for number, arriving in enumerate(members, start=1):
        chosen = active_set(number, settings.continual)
        anchor = Member.of(ANCHOR, previous, config) if chosen.anchored else None
        candidates = [anchor] * (anchor is not None) + [members[index] for index in chosen.indices]
        weighted = [(m, w) for m, w in zip(candidates, chosen.weights, strict=True) if m and m.delta is not None]
        active, weights = [member for member, _ in weighted], [weight for _, weight in weighted]
        sar = _sar(active, chosen, members, overlap, anchor)
        geometry = geometry_of([member.gate for member in active], sar, weights, config)
        incoming = incoming_conflict(subspace, arriving.analysis, config, pairs)
        before, merge = state, None
        if states is None:
            merge = get_method(settings.method).merge(
                MergeStep(
                    deltas=[member.delta for member in active if member.delta is not None],
                    # The anchor is another matrix at every step, and a random mask of it must be another one too.
                    names=[f"{ANCHOR} {number}" if member is anchor else member.name for member in active],
                    weights=weights,
                    geometry=geometry,
                    previous=previous,
                    arriving=arriving.delta,
                    norms=[m.analysis.total_energy**0.5 for m in members[:number] if m.analysis is not None],
                    matrix=key.name,
                    shape=key.shape,
                    config=config,
                    settings=settings.options,
                    carried=carried,
                )
            )
            merged = _checked(merge, device, f"matrix {key.name!r}: the merge of step {number} ({arriving.name})")
            state = integrate(state if number > 1 else None, merged, previous, settings.continual, number)
            previous = merged
        else:
            described = states[number - 1]
            state = _factored_zero(key.shape, device) if described is None else described.to(device, torch.float32)
            merged = state = state if factored else dense(state)
        subspace = right_subspace(state, config.analysis_rank, config.analysis_energy) if squared_norm(state) else None
        yield Step(
            number=number,
            key=key,
            config=config,
            arriving=arriving,
            active=active,
            sar=sar,
            geometry=geometry,
            merge=merge,
            merged=merged,
            before=before,
            after=state,
            subspace=subspace,
            state=state_signals([m.analysis for m in active if m.analysis is not None], subspace, config, pairs),
            incoming=incoming,
            angles=angles,
        )


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


def _checked(merge: Merge, device: torch.device, what: str) -> Update:
    """Δ_merge in float32 on ``device``. Raises :class:`InputError`, naming ``what``, where it is not finite."""
    merged = merge.rounded.to(device=device)  # without an active update the merge is zeros on the CPU
    for part in (merged.left_or, merged.right_ri) if isinstance(merged, LowRank) else (merged,):
        check_finite(part, what)
    return merged


def _factored_zero(shape: tuple[int, int], device: torch.device) -> LowRank:
    return LowRank(torch.zeros(shape[0], 0, device=device), torch.zeros(0, shape[1], device=device))


def _overlaps(members: Sequence[Member]) -> Tensor:
    """SAR [i→j] between all updates, (K, K), computed once; NaN for absent ones."""
    k = len(members)
    table = torch.full((k, k), float("nan"), dtype=torch.float64)
    index = [i for i, member in enumerate(members) if member.delta is not None]
    if index:
        present = [members[i] for i in index]
        values = cross_norms([m.delta for m in present if m.delta is not None], [m.analysis for m in present])
        table[torch.tensor(index)[:, None], torch.tensor(index)[None, :]] = values
    return table


def _sar(
    active: Sequence[Member], chosen: ActiveSet, members: Sequence[Member], overlap: Tensor, anchor: Member | None
) -> Tensor:
    if anchor is not None:  # the anchor is new at every step
        return cross_norms([m.delta for m in active if m.delta is not None], [m.analysis for m in active])
    index = torch.tensor([i for i in chosen.indices if members[i].delta is not None], dtype=torch.long)
    return overlap[index[:, None], index[None, :]]
