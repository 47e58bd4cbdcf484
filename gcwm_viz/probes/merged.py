"""A model in memory whose target matrices are set to base + Δ, repeatedly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
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


class MergedModel:
    """The base in memory, in ``dtype``; its logits are those of the exported checkpoint in that precision.

    ``keys``: the target matrices given, then those of ``outside`` that the model has as tensors of their own.
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
        # Names in memory can differ from the checkpoint's by prefixes; some biases are buffers.
        held = self.model.state_dict(keep_vars=True)
        names = base_names({name: tuple(tensor.shape) for name, tensor in held.items()}, base)
        parameters: dict[str, torch.nn.Parameter] = {names[name]: tensor for name, tensor in held.items()}
        named = {key.name: parameters.get(key.name) for key in keys}
        whole = {name: parameter for name, parameter in named.items() if parameter is not None}
        for name in outside:
            parameter = parameters.get(name)
            # Tied tensors are one parameter under two names, and counted once.
            if parameter is not None and all(parameter is not other for other in whole.values()):
                whole[name] = parameter
        # Some models hold several tensors of the checkpoint, such as experts, in one parameter; they are loaded anew.
        self.parameters = whole if None not in named.values() else None
        rest = outside if self.parameters is None else whole
        self.keys: list[MatrixKey | OutsideTensor] = [*keys]
        self.keys += [OutsideTensor(name) for name in rest if name not in named]

    def set_updates(self, deltas: Sequence[Update | None]) -> None:
        """Tensors of ``keys`` ← base + Δ, added in float32; None leaves the base value."""
        if self.parameters is None:
            changed = {key.name: self._value(key, delta) for key, delta in zip(self.keys, deltas, strict=True)}
            state = {name: changed.get(name, read_tensor(info)) for name, info in self.base.tensors.items()}
            model = type(self.model).from_pretrained(
                None,
                config=self.model.config,
                state_dict=state,
                dtype=self.dtype,
                local_files_only=True,
                trust_remote_code=False,
            )
            self.model = model.to(self.device).eval()
            return
        for key, delta in zip(self.keys, deltas, strict=True):
            with torch.no_grad():
                self.parameters[key.name].copy_(self._value(key, delta).to(self.device))

    def _value(self, key: MatrixKey | OutsideTensor, delta: Update | None) -> Tensor:
        value = read_tensor(self.base.tensors[key.name]).float()
        return value if delta is None else value + key.from_linear(dense(delta).float().cpu())
