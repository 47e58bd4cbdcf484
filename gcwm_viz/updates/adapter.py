"""The update of a PEFT adapter, under the names of its base."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from gcwm_viz.checkpoints.adapters import AdaptedModule, Adapter
from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.peft_layers import PeftLayers, PeftModule
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, accumulate, squared_norm, transposed
from gcwm_viz.updates.energy import squared_change, squared_sum
from gcwm_viz.updates.experts import in_base_layout
from gcwm_viz.updates.matrices import MatrixKey, is_target, target_matrices
from gcwm_viz.updates.naming import base_names
from gcwm_viz.updates.parameters import expert_factors
from gcwm_viz.updates.source import UpdateSource, check_stored, difference
from gcwm_viz.updates.towers import Towers, block_list


class AdapterUpdate(UpdateSource):
    """An adapter. Δ of LoRA stays factored where its form has factors; it is dense for the other kinds, and for a
    matrix that the adapter stores whole (``whole``), whose Δ is θ − θ_pre, as for a checkpoint.

    ``trained_on``: the weights, by the base's names, of the model that it was trained on; the base's own unless the
    adapter belongs to a checkpoint.
    """

    kind = "adapter"

    def __init__(self, name: str, path: Path, base: CheckpointIndex, adapter: Adapter) -> None:
        super().__init__(name, path, base, adapter.index)
        layers = adapter.layers.own if adapter.layers is not None else {}
        weights = [f"{module}.weight" for module in (*adapter.modules, *layers, *adapter.embeddings, *adapter.tokens)]
        biases = [f"{module}.bias" for module in (*adapter.bias_changes, *layers)]
        # All at once, since a single name may not show its prefix.
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys((*weights, *biases), ())
        shapes |= {f"{module}.weight": lora.shape for module, lora in (adapter.modules | adapter.embeddings).items()}
        shapes |= {f"{module}.weight": rows.info.shape for module, rows in adapter.tokens.items()}
        shapes |= {name: info.shape for name, info in adapter.replaced.items()}
        names = base_names(shapes, base)
        self.trained_on = base.tensors
        self._linear: dict[str, MatrixKey] = {}
        self.modules: dict[str, AdaptedModule] = {
            names[f"{module}.weight"]: lora for module, lora in adapter.modules.items()
        }
        if adapter.layers is not None:
            self.modules |= self._by_peft(adapter.layers, names)
        self.modules |= expert_factors(adapter, base)
        self.embeddings = {names[f"{module}.weight"]: lora for module, lora in adapter.embeddings.items()}
        self.tokens = {names[f"{module}.weight"]: rows for module, rows in adapter.tokens.items()}
        self.replaced = in_base_layout({names[tensor]: info for tensor, info in adapter.replaced.items()}, base)
        # What is added to a bias: a tensor and its factor.
        self.bias_changes = {
            names[f"{module}.bias"]: (info, adapter.modules[module].scaling if module in adapter.modules else 1.0)
            for module, info in adapter.bias_changes.items()
        }
        # Modules whose update changes their bias as well.
        self.biased = {
            name.removesuffix("weight") + "bias": (name, layer)
            for name, layer in self.modules.items()
            if isinstance(layer, PeftModule) and layer.changes_bias
        }
        self.whole = {
            tensor: info
            for tensor, info in self.replaced.items()
            if base.holds(tensor) and (tensor not in base.tensors or is_target(base.tensors[tensor]))
        }
        self._shapes: dict[str, tuple[int, ...]] = {tensor: lora.shape for tensor, lora in self.modules.items()}
        self._shapes |= {tensor: info.shape for tensor, info in self.whole.items()}

    def _by_peft(self, layers: PeftLayers, names: dict[str, str]) -> dict[str, AdaptedModule]:
        """The modules that peft merges; each needs a weight in the base, which gives its shape."""
        self._linear = {key.name: key for key in target_matrices(self.base)}
        shapes: dict[str, tuple[int, int]] = {}
        for module, own in layers.own.items():
            info = self.base.tensors.get(name := names[f"{module}.weight"])
            if info is None or len(info.shape) != 2:
                raise InputError(self._foreign(next(iter(own.values())), module, name))
            key = self._linear.get(name)
            shapes[module] = key.shape if key is not None else (info.shape[0], info.shape[1])
        biased = frozenset(module for module in layers.own if names[f"{module}.bias"] in self.base.tensors)
        return {names[f"{module}.weight"]: layer for module, layer in layers.modules(shapes, biased).items()}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return self._shapes

    def others(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            name: info.shape for name, info in self.replaced.items() if name not in self.whole
        }
        shapes |= {name: self.base.tensors[name].shape for name in self.tokens if name in self.base.tensors}
        shapes |= {name: info.shape for name, (info, _) in self.bias_changes.items()}
        shapes |= {name: self.base.tensors[name].shape for name in self.biased}
        return shapes | {name: lora.shape[::-1] for name, lora in self.embeddings.items()}

    def check(self, key: MatrixKey) -> None:
        if key.name in self.whole:
            check_stored(self.whole[key.name], key, self.base)
        # B A is in Linear layout, whether or not the base stores its transpose.
        if key.name in self.modules and (shape := self.modules[key.name].shape) != key.shape:
            raise InputError(
                f"{self.path}: this adapter is for another base: its update of {key.name!r} has shape {shape}, "
                f"expected {key.shape} as in {self.base.stored(key.name).path}"
            )

    def nbytes(self, key: MatrixKey) -> int:
        module, info = self.modules.get(key.name), self.whole.get(key.name)
        read = module.nbytes if module else 0
        whole = info is not None or (module is not None and module.needs_weight)
        return read + (info.nbytes if info else 0) + (self.base.stored(key.name).nbytes if whole else 0)

    def rank(self, key: MatrixKey) -> int | None:
        return None if key.name in self.whole else self.modules[key.name].rank

    def _read(self, key: MatrixKey, dtype: torch.dtype) -> Update:
        def weight() -> Tensor:
            return key.to_linear(read_tensor(self.whole.get(key.name) or self.trained_on[key.name]))

        module = self.modules.get(key.name)
        update = module.read(dtype, weight) if module is not None else None
        if key.name not in self.whole:
            assert update is not None
            return update
        change = difference(self.whole[key.name], key, self.base, dtype)
        return change if update is None else accumulate(update, change)

    def check_modules(self) -> None:
        """Raises InputError when a module inside a decoder block has no weight in the base, and where none inside a
        block has; other towers that the base does not have are left out."""
        towers = Towers.of(self.base)
        known = any(map(self.base.holds, self.modules))
        for name, adapted in self.modules.items():
            if not self.base.holds(name) and (towers.in_decoder(name) if known else block_list(name)):
                raise InputError(self._foreign(adapted.tensors[0], adapted.module, name))

    def _foreign(self, info: TensorInfo, module: str, name: str) -> str:
        return (
            f"{self.path}: this adapter is for another base: tensor {info.name!r} adapts {module!r}, "
            f"expected in the base {self.base.root} a tensor {name!r}, found none"
        )

    def outside_names(self, keys: Iterable[MatrixKey]) -> list[str]:
        targets, base = {key.name for key in keys}, self.base.tensors
        shapes = self.others() | {name: shape for name, shape in self._shapes.items() if name not in targets}
        return [
            name
            for name, shape in shapes.items()
            if name in base and name not in targets and base[name].is_floating and base[name].shape == shape
        ]

    def _outside_change(self, name: str) -> Tensor:
        """The sum of all that the adapter does to one tensor: it may store it whole and adapt it too."""
        before = read_tensor(self.trained_on[name]).float()
        change = read_tensor(self.replaced[name]).float().sub_(before) if name in self.replaced else before.zero_()
        for update in self._adapted(name):
            change = accumulate(update, change)
        if name in self.tokens:
            rows = self.tokens[name]
            for index, row in zip(rows.indices, rows.changes(self.trained_on[name]), strict=True):
                change[index] += row.float()
        if name in self.bias_changes:
            added, scaling = self.bias_changes[name]
            change += scaling * read_tensor(added).float()
        return change + self._bias_change(name) if name in self.biased else change

    def _adapted(self, name: str) -> Iterator[Update]:
        """Updates of one tensor outside the targets, as the base stores it."""
        info = self.replaced.get(name, self.trained_on.get(name))

        def weight() -> Tensor:
            assert info is not None
            return read_tensor(info)

        if name in self.modules:
            yield self.modules[name].read(torch.float32, weight)
        if name in self.embeddings:
            yield transposed(self.embeddings[name].read(torch.float32, lambda: weight().mT))

    def _bias_change(self, name: str) -> Tensor:
        weight, layer = self.biased[name]
        key = self._linear.get(weight)
        stored = read_tensor(self.trained_on[weight]).float()
        return layer.bias_change(key.to_linear(stored) if key else stored, read_tensor(self.trained_on[name]).float())

    def _outside(self, keys: Iterable[MatrixKey]) -> Iterator[tuple[str, float]]:
        targets = {key.name for key in keys}
        adapted = {name: module for name, module in self.modules.items() if name not in targets} | self.embeddings
        for name, module in adapted.items():
            if self.base.holds(name) or not module.needs_weight:
                yield name, math.fsum(map(squared_norm, self._adapted(name)))
        for name, rows in self.tokens.items():
            if name in self.base.tensors:
                yield name, sum(map(squared_sum, rows.changes(self.trained_on[name])))
        for name, (info, scaling) in self.bias_changes.items():
            yield name, squared_sum(read_tensor(info)) * scaling**2
        for name in self.biased:
            yield name, squared_sum(self._bias_change(name))
        for name, info in self.replaced.items():
            if self.base.holds(name) and name not in targets:
                yield from squared_change(name, info, self.base.stored(name))
