"""A model in memory whose target matrices are set to base + Δ again and again."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.updates.matrices import MatrixKey


class MergedModel:
    """The base in memory, in ``dtype``; its logits are those of the exported checkpoint in that precision.

    Raises InputError for a base that transformers cannot load, and for one that lacks the tokenizer.
    """

    def __init__(
        self, base: CheckpointIndex, store: RunStore, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self.base, self.keys, self.device, self.dtype = base, store.keys, device, dtype
        _check_depth(base)
        transformers_logging.disable_progress_bar()  # one bar, the job's, is enough
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(base.root, local_files_only=True, trust_remote_code=False)
            model: Any = AutoModelForCausalLM.from_pretrained(
                base.root, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=dtype
            )
        except Exception as error:  # what a config can make transformers raise has no end
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"{base.root}: transformers cannot load the base ({reason})") from error
        self.model: Any = model.to(device).eval()
        parameters = {key.name: self._parameter(key.name) for key in store.keys}
        # Some models hold in one parameter what their checkpoint has in several, such as experts.
        self.parameters = None if None in parameters.values() else parameters

    def _parameter(self, name: str) -> torch.nn.Parameter | None:
        # A checkpoint that was saved without its head has the names without the first component.
        for full in (name, f"{self.model.base_model_prefix}.{name}"):
            try:
                return self.model.get_parameter(full)
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


def _check_depth(base: CheckpointIndex) -> None:
    """A config can claim any number of layers, and transformers would build them all."""
    for name in ("num_hidden_layers", "n_layer"):
        layers = base.config.get(name)
        if isinstance(layers, int) and layers > len(base.tensors):
            raise InputError(f"{base.config_file}: {name} is {layers}, the base has {len(base.tensors)} tensors in all")
