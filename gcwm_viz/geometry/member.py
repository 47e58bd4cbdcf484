"""Members of an active set with their geometry, computed once and reused at every step."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import Update, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace

ANCHOR = "anchor"
"""Name of Δ_merge,t−1 as a member of the active set under ``current_anchor``."""
Subspaces = dict[tuple[float, ...], tuple[Update, RightSubspace]]

_SUBSPACES: ContextVar[Subspaces | None] = ContextVar("subspaces", default=None)


@contextmanager
def shared_subspaces() -> Iterator[Subspaces]:
    """Inside this block the subspace of a matrix is computed once for all runs with the same ranks.

    The cache is keyed by identity, so it holds the matrices until the block ends or the yielded cache is cleared.
    """
    cache: Subspaces = {}
    token = _SUBSPACES.set(cache)
    try:
        yield cache
    finally:
        _SUBSPACES.reset(token)


def _subspace(delta: Update, rank: int, energy: float, share: bool) -> RightSubspace:
    cache = _SUBSPACES.get()
    if cache is None or not share:
        return right_subspace(delta, rank, energy)
    key = (id(delta), rank, energy)
    if key not in cache:
        cache[key] = delta, right_subspace(delta, rank, energy)
    return cache[key][1]


@dataclass(frozen=True)
class Member:
    """One member of an active set with its geometry, computed once and used at every step that it is active.

    delta: (d_out, d_in), None where the update does not touch the matrix. analysis, gate: its right subspace truncated
    for the signals and for the gate, None with delta.
    """

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
            share=name != ANCHOR,  # the anchor is another matrix at every step
        )
        return cls(
            name,
            delta,
            full.truncate(config.analysis_rank, config.analysis_energy),
            full.truncate(config.rank, config.energy),
        )
