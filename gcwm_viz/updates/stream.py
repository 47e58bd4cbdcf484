"""The updates of one matrix at a time, so that no model is ever whole in memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.sources import UpdateSource


@dataclass(frozen=True)
class MatrixUpdates:
    """Every source's Δ of one matrix, in the order of the sources; None where a source does not touch it."""

    key: MatrixKey
    names: list[str]
    deltas: list[Update | None]

    @property
    def active(self) -> list[tuple[str, Update]]:
        """Names and updates of the sources that touch the matrix."""
        return [(name, delta) for name, delta in zip(self.names, self.deltas, strict=True) if delta is not None]


def read_matrix(key: MatrixKey, sources: Sequence[UpdateSource], dtype: torch.dtype = torch.float32) -> MatrixUpdates:
    """Δ of ``key`` from every source, (d_out, d_in) each; raises what ``UpdateSource.delta`` does."""
    return MatrixUpdates(key, [source.name for source in sources], [source.delta(key, dtype) for source in sources])


def stream(
    keys: Iterable[MatrixKey], sources: Sequence[UpdateSource], dtype: torch.dtype = torch.float32
) -> Iterator[MatrixUpdates]:
    """``read_matrix`` over ``keys``; each is read when asked for and can be freed before the next."""
    for key in keys:
        yield read_matrix(key, sources, dtype)
