"""A model in memory whose target matrices are set to base + Δ, repeatedly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from gcwm_viz.checkpoints.architecture import Place, place_of, places
from gcwm_viz.checkpoints.index import CheckpointIndex, split_entry
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.probes.loading import load_model, load_tokenizer
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.naming import base_names

T = TypeVar("T", Tensor, LowRank)


@dataclass(frozen=True)
class OutsideTensor:
    """A tensor outside the target matrices, such as a norm or the embeddings, in the one layout that it has."""

    name: str
    layer: int = -1
    family: str = "outside"

    def to_linear(self, stored: T) -> T:
        return stored

    def from_linear(self, linear: T) -> T:
        return linear


@dataclass(frozen=True, eq=False)
class Weight:
    """A tensor of the checkpoint in memory: all of ``parameter``, or the part of it at ``place``."""

    parameter: torch.nn.Parameter
    place: Place

    def part(self, whole: Tensor) -> Tensor:
        """The tensor's part, in the checkpoint's layout, of the parameter or of its gradient; a view."""
        return self.place.part(whole)

    def same(self, other: "Weight") -> bool:
        """Whether both are the same numbers in memory, as tied tensors are."""
        return self.parameter is other.parameter and (self.place.entry, self.place.rows) == (
            other.place.entry,
            other.place.rows,
        )


def weights_in(model: Any, base: CheckpointIndex) -> Callable[[str], Weight | None]:
    """Where a model of transformers has a tensor of ``base``, by name; None where that is not known. One whose name
    alone is known may have another shape."""
    placed = places(model, base.tensors)
    held = model.state_dict(keep_vars=True)  # some biases are buffers
    names = base_names({name: tuple(tensor.shape) for name, tensor in held.items()}, base)
    own = {names[name]: Weight(tensor, Place(name)) for name, tensor in held.items()}

    def weight(name: str) -> Weight | None:
        place = place_of(name, placed)
        return own.get(name) if place is None else Weight(held[place.parameter], place)

    return weight


class MergedModel:
    """The base in memory, in ``dtype``; its logits are those of the exported checkpoint in that precision.

    ``keys``: the target matrices given, then those of ``outside`` that the model has as tensors of their own.
    ``weights``: where each of them is in memory, by name; None where that is not known of every target matrix.
    Raises InputError for a base that transformers cannot load completely, and for one without a tokenizer.
    """

    def __init__(
        self,
        base: CheckpointIndex,
        keys: Sequence[MatrixKey],
        device: torch.device,
        dtype: torch.dtype,
        outside: Sequence[str] = (),
    ) -> None:
        self.base, self.device, self.dtype = base, device, dtype
        self.tokenizer = load_tokenizer(base)
        self.model: Any = load_model(base, self.dtype).to(device)
        weight = weights_in(self.model, base)
        named = {key.name: weight(key.name) for key in keys}
        whole = {name: found for name, found in named.items() if found is not None}
        for name in outside:
            found = weight(name)
            # Tied tensors are one parameter under two names, and counted once.
            if found is not None and not any(map(found.same, whole.values())):
                whole[name] = found
        # A model whose matrices are not all known in memory is loaded anew, with every tensor.
        self.weights = whole if None not in named.values() else None
        rest = outside if self.weights is None else whole
        self.keys: list[MatrixKey | OutsideTensor] = [*keys]
        self.keys += [OutsideTensor(name) for name in rest if name not in named]

    def set_updates(self, deltas: Sequence[Update | None]) -> None:
        """Tensors of ``keys`` ← base + Δ, added in float32; None leaves the base value."""
        if self.weights is None:
            self._load(deltas)
            return
        for key, delta in zip(self.keys, deltas, strict=True):
            with torch.no_grad():
                weight = self.weights[key.name]
                weight.part(weight.parameter).copy_(self._value(key, delta).to(self.device))

    def _load(self, deltas: Sequence[Update | None]) -> None:
        """The whole model again, from tensors in the checkpoint's layout."""
        state = {name: read_tensor(info) for name, info in self.base.tensors.items()}
        for key, delta in zip(self.keys, deltas, strict=True):
            tensor, entry = (key.name, None) if key.name in state else split_entry(key.name)
            if delta is not None:
                state[tensor] = state[tensor].float()
                part = state[tensor] if entry is None else state[tensor][entry]
                part.copy_(self._value(key, delta))
        model = type(self.model).from_pretrained(
            None,
            config=self.model.config,
            state_dict=state,
            dtype=self.dtype,
            local_files_only=True,
            trust_remote_code=False,
        )
        self.model = model.to(self.device).eval()

    def _value(self, key: MatrixKey | OutsideTensor, delta: Update | None) -> Tensor:
        value = read_tensor(self.base.stored(key.name)).float()
        return value if delta is None else value + key.from_linear(dense(delta).float().cpu())
