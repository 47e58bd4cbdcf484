"""Members of an active set with their geometry, which is computed once and kept across steps."""

from dataclasses import dataclass

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import Update, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
from gcwm_viz.signals.pairwise import principal_angles


@dataclass(frozen=True)
class Member:
    """One member of an active set with its geometry, computed once and used at every step that it is active."""

    name: str
    delta: Update | None
    analysis: RightSubspace | None
    gate: RightSubspace | None

    @classmethod
    def of(cls, name: str, delta: Update | None, config: GCWMConfig) -> "Member":
        if delta is None or squared_norm(delta) == 0:
            return cls(name, None, None, None)
        full = right_subspace(delta, max(config.rank, config.analysis_rank), max(config.energy, config.analysis_energy))
        return cls(
            name,
            delta,
            full.truncate(config.analysis_rank, config.analysis_energy),
            full.truncate(config.rank, config.energy),
        )


class Angles:
    """Principal angles between gate subspaces, computed once for every two of them.

    They are known by identity, because the anchor of every step is another one, and therefore kept.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[RightSubspace, RightSubspace, list[float]]] = {}

    def between(self, first: Member, second: Member) -> list[float]:
        if first.gate is None or second.gate is None:
            return []
        place = id(first.gate), id(second.gate)
        if place not in self._known:
            angles = [round(angle, 4) for angle in principal_angles(first.gate, second.gate)]
            self._known[place] = first.gate, second.gate, angles
        return self._known[place][2]
