"""Members of an active set with their geometry, which is computed once and kept across steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from gcwm_viz.continual.memory import ANCHOR
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import Update, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace
from gcwm_viz.signals.pairwise import principal_angles

Known = dict[tuple[float, ...], tuple[Update, RightSubspace]]

_KNOWN: ContextVar[Known | None] = ContextVar("known_subspaces", default=None)


@contextmanager
def remembered() -> Iterator[Known]:
    """Inside this block the subspace of a matrix is computed once for all runs that ask for the same of it.

    Matrices are known by identity, and therefore kept, until the block ends or the yielded table is cleared.
    """
    token = _KNOWN.set({})
    try:
        known = _KNOWN.get()
        assert known is not None
        yield known
    finally:
        _KNOWN.reset(token)


def _subspace(delta: Update, rank: int, energy: float, keep: bool) -> RightSubspace:
    known = _KNOWN.get()
    if known is None or not keep:
        return right_subspace(delta, rank, energy)
    place = (id(delta), rank, energy)
    if place not in known:
        known[place] = delta, right_subspace(delta, rank, energy)
    return known[place][1]


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
        full = _subspace(
            delta,
            max(config.rank, config.analysis_rank),
            max(config.energy, config.analysis_energy),
            keep=name != ANCHOR,  # the anchor is another matrix at every step
        )
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
