"""The record of one matrix at one step, from which signals and table rows are computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import LayerGeometry
from gcwm_viz.geometry.member import Member
from gcwm_viz.linalg.counts import Counts, counts
from gcwm_viz.linalg.lowrank import Update, times
from gcwm_viz.linalg.subspace import RightSubspace
from gcwm_viz.merging.merge import Merge
from gcwm_viz.signals.pairwise import Angles
from gcwm_viz.signals.state import StateSignals
from gcwm_viz.updates.matrices import MatrixKey


@dataclass(frozen=True, kw_only=True)
class Step:
    """One matrix at one step, 1 … T.

    key: the matrix. arriving: the update of this step, with ``delta`` None where it does not touch the matrix.
    active: the active set, arriving update last, members that do not touch the matrix left out; each has ``name``,
    ``delta`` (d_out, d_in) and its subspaces. sar: (m, m), SAR [i→j] of the active set. geometry: conflict, gate and
    metric of the active set. merge: the method's result, None where the states of a training pipeline are given.
    merged: Δ_merge,t in float32; the state itself where states are given. before, after: S_{t−1} and S_t; subspace: of
    S_t, None where it is exactly zero. state: conflicts among the active set and with S_t. incoming: γ(S_{t−1}, Δ_t).
    """

    number: int
    key: MatrixKey
    config: GCWMConfig
    arriving: Member
    active: Sequence[Member]
    sar: Tensor
    geometry: LayerGeometry
    merge: Merge | None
    merged: Update
    before: Update
    after: Update
    subspace: RightSubspace | None
    state: StateSignals
    incoming: float
    angles: Angles

    @property
    def deltas(self) -> list[Update]:
        """Δ of the active set, (d_out, d_in) each, dense or factored."""
        return [member.delta for member in self.active if member.delta is not None]

    @cached_property
    def counts(self) -> Counts | None:
        """Of the active updates by Δ_merge, in the leading left directions of S_t (those of Δ_merge under constant η).
        None where the state is zero or no active update touches the matrix."""
        if self.subspace is None or not self.deltas:
            return None
        like = self.deltas[0]
        written_or = times(self.after.to(dtype=like.dtype), self.subspace.v_ir.to(like.device, like.dtype))
        return counts(written_or / written_or.norm(dim=0), self.merged.to(dtype=like.dtype), self.deltas)

    @property
    def own_merge(self) -> Merge | None:
        """The merge where an active update touches the matrix, else None."""
        return None if self.geometry.metric is None else self.merge
