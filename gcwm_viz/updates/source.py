"""The interface of every form of update: the base tensors that it covers, and Δ of each in Linear layout."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import check_finite, read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update, scaled, squared_norm
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.strength import WHOLE


class UpdateSource(ABC):
    """One update of ``base``, called ``name``; ``kind`` is "checkpoint", "adapter", "checkpoint+adapter", "delta" or
    "increment".

    Every change that it tells of, inside the target matrices or outside, is ``strength`` times that of its files;
    ``open_update`` sets it. Several ``parts`` have strength 1: it is what they make together that is scaled.
    """

    kind: str
    strength: float = WHOLE

    def __init__(self, name: str, path: Path, base: CheckpointIndex, index: CheckpointIndex) -> None:
        self.name = name
        self.path = path
        self.base = base
        self.index = index

    @property
    def parts(self) -> "list[UpdateSource]":
        """The sources that this one is made of."""
        return [self]

    @property
    def folders(self) -> list[Path]:
        """Where its files lie."""
        return [part.path for part in self.parts]

    def fingerprint(self) -> str:
        """sha256 (hex) of the source's content (see ``CheckpointIndex.fingerprint``), its kind, and its strength where
        that is not 1: another strength is another input."""
        content = self._fingerprint()
        if self.strength == WHOLE:
            return content
        return hashlib.sha256(f"{self.strength!r}*{content}".encode()).hexdigest()

    def _fingerprint(self) -> str:
        return hashlib.sha256(f"{self.kind}:{self.index.fingerprint()}".encode()).hexdigest()

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Stored shape, in the base's layout, of every base tensor that the source covers; headers only."""

    def others(self) -> dict[str, tuple[int, ...]]:
        """The same for the source's other tensors, which cannot be targets; headers only."""
        return {}

    @abstractmethod
    def nbytes(self, key: MatrixKey) -> int:
        """Bytes to read for one matrix, the base's included where it is needed."""

    def rank(self, key: MatrixKey) -> int | None:
        """Columns of the factors of a touched matrix's update; None where it is dense."""
        return None

    @abstractmethod
    def _read(self, key: MatrixKey, dtype: torch.dtype) -> Update: ...

    def outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]:
        """(tensor name, ‖Δ‖_F²) of every change outside ``keys``, one tensor in memory at a time."""
        for name, squared in self._outside(keys):
            yield name, self.strength**2 * squared

    @abstractmethod
    def _outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]: ...

    def outside_names(self, keys: Iterable[MatrixKey]) -> list[str]:
        """The base's tensors outside ``keys`` whose change the source knows in the base's shape; headers only."""
        return []

    def outside_change(self, name: str) -> Tensor:
        """Δ of one of :meth:`outside_names`, float32 in the base's shape."""
        change = self._outside_change(name)
        return change if self.strength == WHOLE else self.strength * change

    def _outside_change(self, name: str) -> Tensor:
        raise KeyError(name)

    def touched(self, keys: Iterable[MatrixKey]) -> list[MatrixKey]:
        """The keys for which the source holds a matrix; headers only, so a Δ of zeros still counts."""
        shapes = self.shapes()
        return [key for key in keys if key.name in shapes]

    def delta(self, key: MatrixKey, dtype: torch.dtype = torch.float32) -> Update | None:
        """Δ of one matrix, (d_out, d_in) in ``dtype``; None when it is absent from the source or exactly zero.

        Raises InputError for another shape than the base's, and for a NaN or infinite value in the files or in Δ.
        """
        if key.name not in self.shapes():
            return None
        self.check(key)
        update = self._read(key, dtype)
        if self.strength != WHOLE:
            update = scaled(update, self.strength)
        for part in (update.left_or, update.right_ri) if isinstance(update, LowRank) else (update,):
            check_finite(part, f"{self.path}: the update of {key.name!r} in {str(dtype).removeprefix('torch.')}")
        if isinstance(update, LowRank):
            return update if squared_norm(update) > 0 else None
        return update if bool(update.any()) else None

    @abstractmethod
    def check(self, key: MatrixKey) -> None:
        """Raises InputError when the tensor of a touched key does not fit: another shape (both are named) or a
        non-floating dtype."""


def check_stored(info: TensorInfo, key: MatrixKey, base: CheckpointIndex) -> None:
    """Raises InputError when a stored matrix has another shape than the base's (both are named) or a non-floating
    dtype."""
    if info.shape != key.stored_shape:
        raise InputError(
            f"{info.path}: tensor {info.name!r} has shape {info.shape}, expected {key.stored_shape} "
            f"as in {base.stored(key.name).path}"
        )
    if not info.is_floating:
        raise InputError(f"{info.path}: tensor {info.name!r} has dtype {info.dtype}, expected F64, F32, F16 or BF16")


def difference(info: TensorInfo, key: MatrixKey, base: CheckpointIndex, dtype: torch.dtype) -> Tensor:
    """θ − θ_pre of one stored matrix, (d_out, d_in) in ``dtype``."""
    return key.to_linear(read_tensor(info).to(dtype).sub_(read_tensor(base.stored(key.name)).to(dtype)))


def state_ranks(key: MatrixKey, sources: Iterable[UpdateSource], states: Iterable[UpdateSource]) -> list[int | None]:
    """Columns of the factors in which each given state of one matrix is stored; None for a dense one, as all are where
    an update of the matrix is dense."""
    if joint_rank(key, sources) is None:
        return [None for _ in states]
    return [state.rank(key) if state.touched([key]) else 0 for state in states]


def joint_rank(key: MatrixKey, sources: Iterable[UpdateSource]) -> int | None:
    """Sum of the ranks of all updates of one matrix; None where one of them is dense."""
    ranks = [source.rank(key) for source in sources if source.touched([key])]
    factored = [rank for rank in ranks if rank is not None]
    return sum(factored) if len(factored) == len(ranks) else None
