"""Updates made of others: an adapter upon a checkpoint (their sum), and what came between two states (their
difference)."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gcwm_viz.checkpoints.hub import UP_TO, UPON
from gcwm_viz.linalg.lowrank import Update, accumulate, dense, difference, scaled
from gcwm_viz.updates.adapter import AdapterUpdate
from gcwm_viz.updates.energy import squared_sum
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.source import UpdateSource, joint_rank

if TYPE_CHECKING:
    from gcwm_viz.updates.sources import CheckpointUpdate


class CombinedUpdate(UpdateSource):
    """An update that follows from several others of the same base, its ``parts``."""

    sign: str
    """Between the parts in the notation of the path."""

    def __init__(self, main: UpdateSource, parts: Sequence[UpdateSource]) -> None:
        """``main``: the part whose name and index it has."""
        path = Path(self.sign.join(str(part.path.resolve()) for part in parts))
        super().__init__(main.name, path, main.base, main.index)
        self._parts = list(parts)

    @property
    def parts(self) -> list[UpdateSource]:
        return self._parts

    def _fingerprint(self) -> str:
        return hashlib.sha256(self.sign.join(part.fingerprint() for part in self.parts).encode()).hexdigest()

    def _changing(self, key: MatrixKey) -> list[UpdateSource]:
        """The parts from which the update of one matrix follows."""
        return [part for part in self.parts if key.name in part.shapes()]

    def nbytes(self, key: MatrixKey) -> int:
        return sum(part.nbytes(key) for part in self._changing(key))

    def check(self, key: MatrixKey) -> None:
        for part in self._changing(key):
            part.check(key)

    def outside_names(self, keys: Iterable[MatrixKey]) -> list[str]:
        keys = list(keys)
        return list(dict.fromkeys(name for part in self.parts for name in part.outside_names(keys)))

    @cached_property
    def _known_outside(self) -> list[frozenset[str]]:
        """Names of the tensors whose change each part knows, the matrices among them."""
        return [frozenset(part.outside_names(())) for part in self.parts]

    def _outside_changes(self, name: str) -> list[Tensor | None]:
        """Of one tensor in every part; None where the part knows none."""
        known = zip(self.parts, self._known_outside, strict=True)
        return [part.outside_change(name) if name in names else None for part, names in known]


class StackedUpdate(CombinedUpdate):
    """An adapter trained on a checkpoint that is itself an update of the base: Δ = (θ − θ_pre) + B A, or another
    update of θ in place of B A."""

    kind = "checkpoint+adapter"
    sign = UPON

    def __init__(self, checkpoint: "CheckpointUpdate", adapter: AdapterUpdate) -> None:
        super().__init__(checkpoint, [checkpoint, adapter])
        self.checkpoint, self.adapter = checkpoint, adapter
        own = {name: info for name, info in checkpoint.tensors.items() if name in self.base.tensors}
        adapter.trained_on = self.base.tensors | {
            name: info for name, info in own.items() if info.is_floating and info.shape == self.base.tensors[name].shape
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self.adapter.shapes() | self.checkpoint.shapes()

    def others(self) -> dict[str, tuple[int, ...]]:
        return self.adapter.others()

    def _changing(self, key: MatrixKey) -> list[UpdateSource]:
        """A matrix that the adapter stores whole replaces the checkpoint's."""
        return [self.adapter] if key.name in self.adapter.whole else super()._changing(key)

    def _outside_change(self, name: str) -> Tensor:
        """The adapter's change is relative to the checkpoint, whose is relative to the base."""
        changes = [change for change in self._outside_changes(name) if change is not None]
        return torch.stack(changes).sum(0) if len(changes) > 1 else changes[0]

    def _read(self, key: MatrixKey, dtype: torch.dtype) -> Update:
        read = [part._read(key, dtype) for part in self._changing(key)]
        return read[0] if len(read) == 1 else accumulate(read[1], dense(read[0]))

    def _outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]:
        """The energies of a tensor that both parts change are added, as if the changes were orthogonal."""
        keys = list(keys)
        whole = self.adapter.replaced
        yield from (entry for entry in self.checkpoint.outside(keys) if entry[0] not in whole)
        yield from self.adapter.outside(keys)


class IncrementUpdate(CombinedUpdate):
    """What training changed between two states θ_s and θ_t: Δ = (θ_t − θ_pre) − (θ_s − θ_pre)."""

    kind = "increment"
    sign = UP_TO

    def __init__(self, earlier: UpdateSource, later: UpdateSource) -> None:
        super().__init__(later, [earlier, later])

    def shapes(self) -> dict[str, tuple[int, ...]]:
        earlier, later = (part.shapes() for part in self.parts)
        return earlier | later

    def others(self) -> dict[str, tuple[int, ...]]:
        earlier, later = (part.others() for part in self.parts)
        return earlier | later

    def rank(self, key: MatrixKey) -> int | None:
        return joint_rank(key, self.parts)

    def _read(self, key: MatrixKey, dtype: torch.dtype) -> Update:
        earlier, later = (part.delta(key, dtype) for part in self.parts)
        if later is None:
            return torch.zeros(key.shape, dtype=dtype) if earlier is None else scaled(earlier, -1.0)
        return later if earlier is None else difference(later, earlier)

    def _outside_change(self, name: str) -> Tensor:
        shape = self.base.stored(name).shape
        earlier, later = (torch.zeros(shape) if own is None else own for own in self._outside_changes(name))
        return later - earlier

    def _outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]:
        """Of the tensors that have the base's shape."""
        for name in self.outside_names(keys):
            yield name, squared_sum(self._outside_change(name))
