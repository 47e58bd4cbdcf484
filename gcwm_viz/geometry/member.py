"""Members of an active set with their geometry, computed when it is first asked for and reused at every step."""

from dataclasses import dataclass
from functools import cached_property, partial

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.shared import shared
from gcwm_viz.linalg.lowrank import Update, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace

ANCHOR = "anchor"
"""Name of Δ_merge,t−1 as a member of the active set under ``current_anchor``."""


@dataclass(frozen=True)
class Member:
    """One member of an active set, used at every step that it is active.

    delta: (d_out, d_in), None where the update does not touch the matrix. total_energy: ‖Δ‖_F². analysis, gate: its
    right subspace truncated for the signals and for the gate, None with delta.
    """

    name: str
    delta: Update | None
    total_energy: float
    config: GCWMConfig

    @classmethod
    def of(cls, name: str, delta: Update | None, config: GCWMConfig) -> "Member":
        energy = 0.0 if delta is None else squared_norm(delta)
        return cls(name, None if energy == 0 else delta, energy, config)

    @cached_property
    def _full(self) -> RightSubspace | None:
        if self.delta is None:
            return None
        rank = max(self.config.rank, self.config.analysis_rank)
        energy = max(self.config.energy, self.config.analysis_energy)
        compute = partial(right_subspace, self.delta, rank, energy)
        if self.name == ANCHOR:  # another matrix at every step
            return compute()
        return shared((id(self.delta), rank, energy), self.delta, compute)

    @cached_property
    def analysis(self) -> RightSubspace | None:
        return self._full and self._full.truncate(self.config.analysis_rank, self.config.analysis_energy)

    @cached_property
    def gate(self) -> RightSubspace | None:
        return self._full and self._full.truncate(self.config.rank, self.config.energy)
