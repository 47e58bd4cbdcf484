"""What an update that is still being trained does to earlier ones, in one matrix: what does not change meanwhile is
computed once.

Shape suffixes: m = number of earlier updates, o = d_out, i = d_in, k = min(d_out, d_in).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import overlaps
from gcwm_viz.linalg.lowrank import Update, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
from gcwm_viz.linalg.triplets import double
from gcwm_viz.signals.interference import (
    LARGEST_DENSE,
    NAN,
    PAIR_TABLES,
    Leading,
    MatrixInterference,
    intruders,
    left_vectors,
)
from gcwm_viz.signals.state import incoming_conflict


@dataclass(frozen=True)
class Settled:
    """What stays of one matrix while an update of it is trained.

    earlier: the leading triplets of each earlier update, None where it does not touch the matrix. state: the right
    subspace of the state that the update will meet, None where that is zero. base_squared_norm: ‖W‖². left_ok: W's left
    singular vectors, None where intruder directions are left out.
    """

    earlier: tuple[Leading | None, ...]
    state: RightSubspace | None
    base_squared_norm: float
    left_ok: Tensor | None

    @classmethod
    def of(
        cls,
        weight_oi: Tensor,
        earlier: Sequence[Update | None],
        state: Update | None,
        config: GCWMConfig,
        largest: int = LARGEST_DENSE,
    ) -> "Settled":
        """``largest``: the longest side of a matrix whose intruder directions are counted."""
        meets = state is not None and squared_norm(state) > 0
        return cls(
            tuple(None if delta is None else Leading.of(delta, config) for delta in earlier),
            right_subspace(state, config.analysis_rank, config.analysis_energy)
            if state is not None and meets
            else None,
            float(weight_oi.double().square().sum()),
            left_vectors(weight_oi) if max(weight_oi.shape) <= largest else None,
        )


@dataclass(frozen=True)
class Arriving:
    """Of one matrix. effects: as :class:`MatrixInterference` over the m earlier updates and then the arriving one, with
    ``interference``, ``one_sided`` and ``sar`` of the pairs in which that one acts on another; the rest is NaN.
    incoming: γ(S, Δ) in [0, 1], higher = more conflict, NaN where one of them is absent."""

    effects: MatrixInterference
    incoming: float


def arriving(settled: Settled, weight_oi: Tensor, delta: Update | None, config: GCWMConfig) -> Arriving:
    """``weight_oi``: the base's matrix; ``delta``: Δ at this moment of its training, None where it is zero."""
    m = len(settled.earlier)
    tables = {name: torch.full((m + 1, m + 1), NAN, dtype=torch.float64) for name in PAIR_TABLES}
    norms, found, effective = (torch.full((m + 1,), NAN, dtype=torch.float64) for _ in range(3))
    for i, own in enumerate(settled.earlier):
        norms[i] = NAN if own is None else own.right.total_energy
    right = None
    if delta is not None:
        wide = double(delta)
        right = right_subspace(wide, config.analysis_rank, config.analysis_energy)
        wide = wide.to("cpu")
        norms[m] = right.total_energy
        for i, own in enumerate(settled.earlier):
            if own is not None:
                tables["interference"][i, m], tables["one_sided"][i, m] = own.acted_on(wide)
                tables["sar"][i, m] = overlaps(wide, right.total_energy, [own.right])[0]
        if settled.left_ok is not None:
            found[m] = intruders(settled.left_ok, weight_oi, delta)
    effects = MatrixInterference(norms, settled.base_squared_norm, found, effective, tables)
    return Arriving(effects, incoming_conflict(settled.state, right, config))
