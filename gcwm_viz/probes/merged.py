"""A model in memory whose target matrices are set to base + Δ, repeatedly."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.continual.store import RunStore
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.probes.loading import load_model, load_tokenizer
from gcwm_viz.updates.matrices import MatrixKey


class MergedModel:
    """The base in memory, in ``dtype``, by default the precision in which the run is probed; its logits are those of
    the exported checkpoint in that precision.

    Raises InputError for a base that transformers cannot load completely, and for one without a tokenizer.
    """

    def __init__(
        self, base: CheckpointIndex, store: RunStore, device: torch.device, dtype: torch.dtype | None = None
    ) -> None:
        self.base, self.keys, self.device = base, store.keys, device
        self.dtype = store.probe_dtype if dtype is None else dtype
        self.tokenizer = load_tokenizer(base)
        self.model: Any = load_model(base, self.dtype).to(device)
        parameters = {key.name: self._parameter(key.name) for key in store.keys}
        # Some models hold several tensors of the checkpoint, such as experts, in one parameter.
        self.parameters = None if None in parameters.values() else parameters

    def _parameter(self, name: str) -> torch.nn.Parameter | None:
        # A checkpoint saved without its head lacks the first component of the names.
        for full in (name, f"{self.model.base_model_prefix}.{name}"):
            try:
                parameter: torch.nn.Parameter = self.model.get_parameter(full)
                return parameter
            except AttributeError:
                continue
        return None

    def set_updates(self, deltas: Sequence[Update | None]) -> None:
        """Target matrices ← base + Δ, added in float32; None leaves the base value."""
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
            parameter = self.parameters[key.name]
            assert parameter is not None
            with torch.no_grad():
                parameter.copy_(self._value(key, delta).to(self.device))

    def _value(self, key: MatrixKey, delta: Update | None) -> Tensor:
        value = read_tensor(self.base.tensors[key.name]).float()
        return value if delta is None else value + key.from_linear(dense(delta).float().cpu())
