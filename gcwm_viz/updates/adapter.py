"""The update of a PEFT LoRA adapter, under the names of its base."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from gcwm_viz.checkpoints.adapters import Adapter
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, accumulate, squared_norm
from gcwm_viz.updates.energy import squared_change, squared_sum
from gcwm_viz.updates.matrices import MatrixKey, is_target
from gcwm_viz.updates.naming import base_names
from gcwm_viz.updates.source import UpdateSource, check_stored, difference
from gcwm_viz.updates.towers import Towers, block_list


class AdapterUpdate(UpdateSource):
    """A LoRA adapter; Δ stays factored, except for a matrix that the adapter stores whole (``whole``), whose Δ is
    θ − θ_pre, as for a checkpoint."""

    kind = "adapter"

    def __init__(self, name: str, path: Path, base: CheckpointIndex, adapter: Adapter) -> None:
        super().__init__(name, path, base, adapter.index)
        factors = {f"{module}.weight": lora for module, lora in adapter.modules.items()}
        embeddings = {f"{module}.weight": lora for module, lora in adapter.embeddings.items()}
        tokens = {f"{module}.weight": rows for module, rows in adapter.tokens.items()}
        # All at once, since a single name may not show its prefix.
        shapes: dict[str, tuple[int, ...]] = {tensor: lora.shape for tensor, lora in (factors | embeddings).items()}
        shapes |= {tensor: rows.info.shape for tensor, rows in tokens.items()}
        shapes |= {tensor: info.shape for tensor, info in adapter.replaced.items()}
        names = base_names(shapes, base)
        self.modules = {names[tensor]: lora for tensor, lora in factors.items()}
        self.embeddings = {names[tensor]: lora for tensor, lora in embeddings.items()}
        self.tokens = {names[tensor]: rows for tensor, rows in tokens.items()}
        self.replaced = {names[tensor]: info for tensor, info in adapter.replaced.items()}
        self.whole = {
            tensor: info
            for tensor, info in self.replaced.items()
            if tensor in base.tensors and is_target(base.tensors[tensor])
        }
        self._shapes: dict[str, tuple[int, ...]] = {tensor: lora.shape for tensor, lora in self.modules.items()}
        self._shapes |= {tensor: info.shape for tensor, info in self.whole.items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def others(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            name: info.shape for name, info in self.replaced.items() if name not in self.whole
        }
        shapes |= {name: self.base.tensors[name].shape for name in self.tokens if name in self.base.tensors}
        return shapes | {name: lora.shape[::-1] for name, lora in self.embeddings.items()}

    def check(self, key: MatrixKey) -> None:
        if key.name in self.whole:
            check_stored(self.whole[key.name], key, self.base)
        # B A is in Linear layout, whether or not the base stores its transpose.
        if key.name in self.modules and (shape := self.modules[key.name].shape) != key.shape:
            raise InputError(
                f"{self.path}: this adapter is for another base: its update of {key.name!r} has shape {shape}, "
                f"expected {key.shape} as in {self.base.tensors[key.name].path}"
            )

    def nbytes(self, key: MatrixKey) -> int:
        lora, info = self.modules.get(key.name), self.whole.get(key.name)
        factors = lora.a.nbytes + lora.b.nbytes if lora else 0
        return factors + (info.nbytes + self.base.tensors[key.name].nbytes if info else 0)

    def rank(self, key: MatrixKey) -> int | None:
        return None if key.name in self.whole else self.modules[key.name].a.shape[0]

    def _read(self, key: MatrixKey, dtype: torch.dtype) -> Update:
        factors = self.modules[key.name].read(dtype) if key.name in self.modules else None
        if key.name not in self.whole:
            assert factors is not None
            return factors
        change = difference(self.whole[key.name], key, self.base, dtype)
        return change if factors is None else accumulate(factors, change)

    def check_modules(self) -> None:
        """Raises InputError when a module inside a decoder block has no weight in the base, and where none inside a
        block has; other towers that the base does not have are left out."""
        towers = Towers.of(self.base)
        known = any(name in self.base.tensors for name in self.modules)
        for name, lora in self.modules.items():
            if name not in self.base.tensors and (towers.in_decoder(name) if known else block_list(name)):
                raise InputError(
                    f"{self.path}: this adapter is for another base: tensor {lora.a.name!r} adapts {lora.module!r}, "
                    f"expected in the base {self.base.root} a tensor {name!r}, found none"
                )

    def _outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]:
        targets = {key.name for key in keys}
        thin = {name: lora for name, lora in self.modules.items() if name not in targets} | self.embeddings
        for name, lora in thin.items():
            yield name, squared_norm(lora.read())
        for name, rows in self.tokens.items():
            if name in self.base.tensors:
                yield name, sum(map(squared_sum, rows.changes(self.base.tensors[name])))
        for name, info in self.replaced.items():
            base = self.base.tensors.get(name)
            if name.endswith(".lora_B.bias"):
                yield name, squared_sum(read_tensor(info)) * self._bias_scaling(name)
            elif base is not None and name not in targets:
                yield from squared_change(name, info, base)

    def _bias_scaling(self, name: str) -> float:
        lora = self.modules.get(f"{name.removesuffix('.lora_B.bias')}.weight")
        return lora.scaling**2 if lora else 1.0
