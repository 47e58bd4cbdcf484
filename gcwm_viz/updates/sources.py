"""An update Δ = θ − θ_pre in any of its forms, read matrix by matrix in Linear layout.

A full checkpoint (Δ by subtraction), a PEFT LoRA adapter (Δ as two factors), an adapter on a checkpoint (their sum), a
folder or file of update tensors (Δ itself under the base's tensor names, marked as such), or what came between two of
these (their difference).
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from gcwm_viz.checkpoints.adapters import Adapter
from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.checkpoints.hub import UP_TO, split_pair
from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, CheckpointIndex, has_model
from gcwm_viz.checkpoints.location import is_remote, location, reached
from gcwm_viz.checkpoints.quantised import check_not_quantised
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.updates.adapter import AdapterUpdate
from gcwm_viz.updates.combined import IncrementUpdate, StackedUpdate
from gcwm_viz.updates.energy import squared_change, squared_sum
from gcwm_viz.updates.experts import in_base_layout
from gcwm_viz.updates.groups import group
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.naming import in_base_names
from gcwm_viz.updates.sequence import named, states_in
from gcwm_viz.updates.source import UpdateSource, check_stored, difference
from gcwm_viz.updates.strength import WHOLE, checked
from gcwm_viz.updates.towers import block_list
from gcwm_viz.updates.vocabulary import shared_rows

Rows = list[int] | slice

UPDATE_MARK = {"gcwm_viz": "update"}
UPDATE_FILE = "update.json"
UPDATE_FORMAT = "gcwm_viz.update"
# The tables use this name for the state, beside the updates' names.
RESERVED_NAMES = frozenset({"state"})


class StoredUpdate(UpdateSource):
    """A source whose files hold matrices under tensor names: ``tensors`` maps base names to them."""

    def __init__(self, name: str, path: Path, base: CheckpointIndex, index: CheckpointIndex) -> None:
        super().__init__(name, path, base, index)
        self.tensors = in_base_layout(in_base_names(index.tensors, base), base)
        self._shapes = {tensor: info.shape for tensor, info in self.tensors.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def check(self, key: MatrixKey) -> None:
        check_stored(self.tensors[key.name], key, self.base)

    def outside_names(self, keys: Iterable[MatrixKey]) -> list[str]:
        targets, base = {key.name for key in keys}, self.base
        return [
            name
            for name, info in self.tensors.items()
            if name not in targets
            and base.holds(name)
            and info.is_floating
            and base.stored(name).is_floating
            and (info.shape == base.stored(name).shape or self._rows(name) is not None)
        ]

    def _rows(self, name: str) -> tuple[Rows, Rows] | None:
        """Rows of a table in the base and in the source that belong together; None where all do, or it is none."""
        return None

    def _outside_change(self, name: str) -> Tensor:
        value = read_tensor(self.tensors[name]).float()
        base = read_tensor(self.base.stored(name)).float()
        if rows := self._rows(name):
            change = torch.zeros_like(base)
            change[rows[0]] = value[rows[1]] - base[rows[0]]
            return change
        return value if self.kind == "delta" else value - base


class CheckpointUpdate(StoredUpdate):
    """θ of a full checkpoint; the base is subtracted tensor by tensor."""

    kind = "checkpoint"

    @cached_property
    def _tokens(self) -> tuple[list[int], list[int]] | None:
        return shared_rows(self.base.root, self.path)

    def _rows(self, name: str) -> tuple[Rows, Rows] | None:
        """By token where the tokenizers differ, else the first rows where a table was resized."""
        own, base = self.tensors[name].shape, self.base.stored(name).shape
        if group(name) not in ("embeddings", "head") or block_list(name) or not own or own[1:] != base[1:]:
            return None
        if self._tokens and (not self._tokens[0] or (base[0] > max(self._tokens[0]) and own[0] > max(self._tokens[1]))):
            return self._tokens
        both = slice(min(own[0], base[0]))
        return None if own == base else (both, both)

    def nbytes(self, key: MatrixKey) -> int:
        return self.tensors[key.name].nbytes + self.base.stored(key.name).nbytes

    def _read(self, key: MatrixKey, dtype: torch.dtype) -> Tensor:
        return difference(self.tensors[key.name], key, self.base, dtype)

    def _outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]:
        targets = {key.name for key in keys}
        for name, info in self.tensors.items():
            if name not in targets and self.base.holds(name):
                yield from squared_change(name, info, self.base.stored(name))


class DeltaUpdate(StoredUpdate):
    """Tensors that are Δ itself, in the base's stored layout."""

    kind = "delta"

    def nbytes(self, key: MatrixKey) -> int:
        return self.tensors[key.name].nbytes

    def _read(self, key: MatrixKey, dtype: torch.dtype) -> Tensor:
        return key.to_linear(read_tensor(self.tensors[key.name]).to(dtype))

    def _outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]:
        targets = {key.name for key in keys}
        for name, info in self.tensors.items():
            if name not in targets and self.base.holds(name) and info.is_floating:
                yield name, squared_sum(read_tensor(info))


def open_update(name: str, path: str | Path, base: CheckpointIndex, strength: float = WHOLE) -> UpdateSource:
    """The update in ``path``, whose kind follows from its files; headers only. ``MODEL+ADAPTER`` is an adapter on a
    model, or the adapter alone where that model is the base; ``EARLIER..LATER`` is what came between two states.
    ``strength``: what its Δ is multiplied by, in (0, 10].

    Raises InputError for an unusable ``name`` or ``strength``, and for every fault of the files that headers show.
    """
    source = _open(name, path, base)
    source.strength = checked(strength, name)
    return source


def _open(name: str, path: str | Path, base: CheckpointIndex) -> UpdateSource:
    path = reached(location(path))
    if not name or len(name) > 100 or not name.isprintable() or set(name) & set("/\\") or name in {".", ".."}:
        raise InputError(
            f"{path}: the update name {name[:100]!r} must be 1 to 100 printable characters without / and \\"
        )
    if name in RESERVED_NAMES:
        raise InputError(f"{path}: the update name {name!r} means something else in the tables, expected another")
    pair = None if is_remote(path) else split_pair(path)
    if pair is not None:
        first, sign, second = pair
        if sign == UP_TO:
            return IncrementUpdate(_open(name, first, base), _open(name, second, base))
        return _open_stacked(name, Path(first), Path(second), base)
    if (path / ADAPTER_CONFIG).is_file() and not has_model(path):
        return AdapterUpdate(name, path, base, Adapter.open(path))
    if not has_model(path) and (states := states_in(path)):
        raise InputError(
            f"{path}: expected one model or adapter, found the states {named(states)} of a training; name one of them, "
            f"or give --sequence {path}"
        )
    index = CheckpointIndex.open(path)
    if any(".lora_A" in tensor for tensor in index.tensors):
        raise InputError(f"{index.root / ADAPTER_CONFIG}: missing, expected it beside the LoRA factors in {path}")
    check_not_quantised(index)
    return DeltaUpdate(name, path, base, index) if is_delta(index) else CheckpointUpdate(name, path, base, index)


def _open_stacked(name: str, model: Path, lora: Path, base: CheckpointIndex) -> UpdateSource:
    adapter = _open(name, lora, base)
    if not isinstance(adapter, AdapterUpdate):
        raise InputError(f"{lora}: expected an adapter after the + of {model}+{lora}, found a {adapter.kind}")
    if model.resolve() == base.root.resolve():
        return adapter
    checkpoint = _open(name, model, base)
    if not isinstance(checkpoint, CheckpointUpdate):
        raise InputError(
            f"{model}: expected a full checkpoint before the + of {model}+{lora}, found a {checkpoint.kind}"
        )
    return StackedUpdate(checkpoint, adapter)


def is_delta(index: CheckpointIndex) -> bool:
    """Whether the tensors are Δ itself, by the mark of their folder or files. Raises InputError for another mark."""
    mark = index.root / UPDATE_FILE
    if mark.is_file():
        stated = read_json_object(mark, UPDATE_FILE).get("format")
        if stated != UPDATE_FORMAT:
            raise InputError(f"{mark}: expected format {UPDATE_FORMAT!r}, found {str(stated)[:50]!r}")
        return True
    marked = [UPDATE_MARK.items() <= metadata.items() for metadata in index.file_metadata.values()]
    if any(marked) and not all(marked):
        plain = next(file for file, is_marked in zip(index.file_metadata, marked, strict=True) if not is_marked)
        raise InputError(f"{plain}: not marked as an update though files beside it are, expected all or none marked")
    return all(marked)
