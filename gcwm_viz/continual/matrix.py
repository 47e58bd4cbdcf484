"""All steps of one matrix: geometry, merge and state. Matrices are independent of each other."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.merges import Active, Merges
from gcwm_viz.continual.state import integrate
from gcwm_viz.geometry.layer import cross_norms, geometry_of
from gcwm_viz.geometry.member import Member
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
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
    layers: int | None = None,
) -> Iterator[Step]:
    """Every step of one matrix in order.

    ``deltas``: Δ of each update in arrival order, None where it does not touch the matrix. ``states``: S_t of a
    training pipeline, which are then described; nothing is merged. ``layers``: how many the model has, for LiNeS.

    Raises :class:`InputError` where a merge is not finite, naming the matrix.
    """
    config = settings.gcwm
    merges = Merges(key, names, deltas, settings, layers)
    members, device = merges.members, merges.device
    overlap = _overlaps(members)
    angles, pairs = Angles(), Pairs(config)
    factored = all(member.delta is None or isinstance(member.delta, LowRank) for member in members)
    state: Update = _factored_zero(key.shape, device) if factored else torch.zeros(key.shape, device=device)
    subspace: RightSubspace | None = None
    for number, arriving in enumerate(members, start=1):
        active = merges.active(number)
        sar = _sar(active, members, overlap)
        geometry = geometry_of([member.gate for member in active.members], sar, active.weights, config)
        incoming = incoming_conflict(subspace, arriving.analysis, config, pairs)
        before, merge = state, None
        if states is None:
            previous = merges.previous
            merge, merged = merges.merge(active, geometry)
            state = integrate(state if number > 1 else None, merged, previous, settings.continual, number)
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
            active=active.members,
            sar=sar,
            geometry=geometry,
            merge=merge,
            merged=merged,
            before=before,
            after=state,
            subspace=subspace,
            state=state_signals(
                [m.analysis for m in active.members if m.analysis is not None], subspace, config, pairs
            ),
            incoming=incoming,
            angles=angles,
        )


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


def _sar(active: Active, members: Sequence[Member], overlap: Tensor) -> Tensor:
    if active.anchor is not None:  # the anchor is new at every step
        return cross_norms(
            [m.delta for m in active.members if m.delta is not None], [m.analysis for m in active.members]
        )
    index = torch.tensor([i for i in active.chosen.indices if members[i].delta is not None], dtype=torch.long)
    return overlap[index[:, None], index[None, :]]
