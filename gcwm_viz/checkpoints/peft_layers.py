"""Adapters that peft itself must merge: Δ = θ_merged − W by the arithmetic of peft's layer, one module at a time.

A module gets a host of its own, an ``nn.Linear`` with its weight W; peft wraps it, the stored tensors are loaded into
the wrapper, and peft merges it. The model is never built. What a tuner draws from a seed for all its modules at once
(the projections of VeRA and RandLoRA) depends on their shapes, so that the host then has a module without memory of
each shape too.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.patterns import by_pattern, check_patterns
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError, first_line

# Tuners whose stored tensors, settings and base weight determine the merged weight; LORA for two variants of it.
_KINDS = frozenset({
    "LORA", "BOFT", "C3A", "DEFT", "DELORA", "FOURIERFT", "GLORA", "GRALORA", "HIRA", "HRA", "IA3", "LOHA", "LOKR",
    "MISS", "OFT", "PEANUT", "PVERA", "RANDLORA", "ROAD", "SUPERTUNING", "VBLORA", "VERA", "WAVEFT",
})  # fmt: skip
# Those of them that change the module's bias as well.
_BIASED = frozenset({"GLORA", "IA3", "ROAD"})
_LORA_SETTINGS = (
    *("peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "lora_bias"),
    *("use_bdlora", "kasa_config"),
)
"""Settings of LoRA that decide its merged weight; others of its config name files and modules to import."""
# Which modules are adapted shows in the tensors.
_SELECTION = ("exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "trainable_token_indices")
# Integers that neither size a tensor nor are counted to.
_UNBOUNDED = re.compile("alpha|seed|prng")
_ADAPTER = "default"

MERGE = "PeftModel.from_pretrained(base, DIR).merge_and_unload().save_pretrained(NEW_DIR)"
"""What makes a full checkpoint of a base and an adapter, to be quoted in a sentence."""


@dataclass(frozen=True)
class PeftLayers:
    """The tensors of an adapter by module, and those that all modules share, under peft's names; its config."""

    file: Path
    config: dict[str, Any]
    own: dict[str, dict[str, TensorInfo]] = field(default_factory=dict)
    shared: dict[str, TensorInfo] = field(default_factory=dict)

    @classmethod
    def of(cls, config: dict[str, Any], file: Path) -> "PeftLayers":
        """Without tensors yet. Raises InputError for a type that is no update of weights, or not one that is merged
        here, and where peft is not installed."""
        kind = str(config.get("peft_type"))
        if kind not in _KINDS:
            expected = ", ".join(["LORA", "ADALORA", *sorted(_KINDS - {"LORA"})])
            raise InputError(
                f"{file}: expected peft_type {expected}, found {kind[:50]!r}; "
                f"where peft can merge it into weights, do so first, with {MERGE}"
            )
        try:
            import peft
        except ImportError:
            raise InputError(
                f"{file}: an adapter of type {kind} is merged by the package peft, found none; expected the extra "
                f"`peft`, or the adapter merged first, with {MERGE}"
            ) from None
        if kind not in peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING:
            raise InputError(f"{file}: the installed peft {peft.__version__} has no adapters of type {kind}")
        return cls(file, config)

    def take(self, name: str, bare: str, info: TensorInfo) -> bool:
        """Whether a tensor belongs to a layer, and if so, keeps it. ``bare``: ``name`` without peft's prefix, or equal
        to it where it has none."""
        from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING

        mark = f".{PEFT_TYPE_TO_PREFIX_MAPPING[self.config['peft_type']]}"
        if bare == name:
            _, wrapped, rest = name.partition("base_model.")
            if wrapped:
                self.shared[f"base_model.{rest}"] = info
            return bool(wrapped)
        module, marked, _ = bare.partition(mark)
        if marked:
            self.own.setdefault(module, {})[f"base_model.model.{bare}"] = info
        return bool(marked)

    def modules(self, shapes: Mapping[str, tuple[int, int]], biased: frozenset[str]) -> dict[str, "PeftModule"]:
        """Every module with its shape (d_out, d_in); ``biased``: those with a bias. Raises InputError where what is
        stored does not fit the shapes or the config."""
        check_patterns(self.config, self.own, self.file)
        distinct = tuple(sorted({shapes[module] for module in self.own}))
        found = {
            module: PeftModule(module, shapes[module], module in biased, self, distinct) for module in sorted(self.own)
        }
        # Modules whose tensors have the same shapes fit or fail alike.
        for module in {layer.form: layer for layer in found.values()}.values():
            module.check()
        return found


@dataclass(frozen=True)
class PeftModule:
    """One module of a :class:`PeftLayers`: ``shape`` (d_out, d_in) in Linear layout, ``distinct`` those of all."""

    module: str
    shape: tuple[int, int]
    biased: bool
    layers: PeftLayers
    distinct: tuple[tuple[int, int], ...]
    rank = None
    needs_weight = True

    @property
    def tensors(self) -> list[TensorInfo]:
        return [*self._stored.values()]

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.tensors)

    @property
    def changes_bias(self) -> bool:
        return self.biased and self.layers.config["peft_type"] in _BIASED

    @property
    def form(self) -> tuple[object, ...]:
        """What of the module its fit depends on."""
        prefix = f"base_model.model.{self.module}."
        return self.shape, *sorted((name.removeprefix(prefix), info.shape) for name, info in self._stored.items())

    @property
    def _stored(self) -> dict[str, TensorInfo]:
        return self.layers.own[self.module] | self.layers.shared

    def check(self) -> None:
        """Raises InputError for tensors that do not fit the module or the config; reads none."""
        with self._faults():
            self._layer(_blank, _blank_of(self.shape), _blank_of(self.shape[:1]))

    def read(self, dtype: torch.dtype, weight: Callable[[], Tensor]) -> Tensor:
        """θ_merged − W, (d_out, d_in) in ``dtype``. ``weight`` reads W."""
        weight_oi = weight().to(dtype)
        merged_oi: Tensor = self._merged(weight_oi, weight_oi.new_zeros(self.shape[0])).weight.data
        return merged_oi.sub_(weight_oi)

    def bias_change(self, weight_oi: Tensor, bias_o: Tensor) -> Tensor:
        """The same of the bias, (d_out,) in its dtype."""
        merged_o: Tensor = self._merged(weight_oi.to(bias_o.dtype), bias_o).bias.data
        return merged_o - bias_o

    def _merged(self, weight_oi: Tensor, bias_o: Tensor) -> Any:
        """The module after the merge, which may change a weight in place."""
        with self._faults():
            layer = self._layer(_read_in(weight_oi.dtype), weight_oi.clone(), bias_o.clone())
            layer.merge()
            return layer.get_base_layer()

    def _layer(self, read: Callable[[TensorInfo], Tensor], weight_oi: Tensor, bias_o: Tensor) -> Any:
        """peft's layer around the module, its tensors loaded."""
        import peft
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
        from peft.tuners.tuners_utils import BaseTuner

        config = self._config()
        host, names = nn.Module(), [self.module]
        _put(host, self.module, weight_oi, bias_o if self.biased else None)
        tuner = PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
        if tuner._pre_injection_hook is not BaseTuner._pre_injection_hook:  # it draws what all modules share
            for d_out, d_in in self.distinct:
                names.append(f"shape.{d_out}x{d_in}")
                _put(host, names[-1], _blank_of((d_out, d_in)), None)
        config.target_modules = names
        model = peft.get_peft_model(host, config, _ADAPTER, low_cpu_mem_usage=True)
        stored = {name: read(info) for name, info in self._stored.items()}
        result: Any = peft.set_peft_model_state_dict(model, stored, _ADAPTER, low_cpu_mem_usage=True)
        layer = model.base_model.model.get_submodule(self.module)
        # What was neither stored nor drawn from a seed is still without values.
        absent = [name for name, tensor in (*layer.named_parameters(), *layer.named_buffers()) if tensor.is_meta]
        if absent or result.unexpected_keys:
            problem = f"it lacks {absent[0]!r}" if absent else f"it holds {result.unexpected_keys[0]!r} as well"
            raise ValueError(f"{problem}, which does not fit the settings")
        return layer

    def _config(self) -> Any:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        stated, file = self.layers.config, self.layers.file
        kind = stated["peft_type"]
        settings = {name: value for name, value in stated.items() if kind != "LORA" or name in _LORA_SETTINGS}
        for table, number in (("rank_pattern", "r"), ("alpha_pattern", "lora_alpha" if kind == "LORA" else "alpha")):
            if settings.pop(table, None):
                settings[number] = by_pattern(self.module, stated, table, number, file)
        settings |= {name: None for name in _SELECTION if name in settings}
        # peft would make tensors and loops of any size before it sees what is stored.
        largest = max(*self.shape, *(size for info in self.tensors for size in info.shape))
        for name, value in settings.items():
            if isinstance(value, int) and value > largest and not _UNBOUNDED.search(name):
                raise InputError(
                    f"{file}: {name} is {value}, expected at most {largest}, the longest side of {self.module!r} and "
                    "of the adapter's tensors"
                )
        neutral = {"task_type": None, "inference_mode": True, "fan_in_fan_out": False, "bias": "none"}
        settings |= {name: value for name, value in neutral.items() if name in settings}
        if kind == "IA3":  # a scale of the inputs has one row, a scale of the outputs one column
            (scale,) = self.layers.own[self.module].values()
            settings["feedforward_modules"] = [self.module] if scale.shape[0] == 1 else []
            settings["target_modules"] = [self.module]
        kind_of: Any = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
        return kind_of.from_peft_type(**settings)

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """peft's errors as InputError; its warnings are for those who train. The caller's random numbers stay."""
        try:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.no_grad():
                warnings.simplefilter("ignore")
                torch.manual_seed(0)
                yield
        except InputError:
            raise
        except Exception as error:  # settings from a file can make peft raise anything
            raise InputError(
                f"{self.layers.file}: peft cannot merge the {self.layers.config['peft_type']} adapter of "
                f"{self.module!r}, shape {self.shape} ({' '.join(str(error).split())[:300] or first_line(error)})"
            ) from error


def _put(host: nn.Module, name: str, weight_oi: Tensor, bias_o: Tensor | None) -> None:
    """A Linear in ``host`` under a dotted name."""
    *path, last = name.split(".")
    for part in path:
        if part not in host._modules:
            host.add_module(part, nn.Module())
        host = host.get_submodule(part)
    d_out, d_in = weight_oi.shape
    linear = nn.Linear(d_in, d_out, bias=bias_o is not None, device="meta")
    linear.weight = nn.Parameter(weight_oi, requires_grad=False)
    if bias_o is not None:
        linear.bias = nn.Parameter(bias_o, requires_grad=False)
    host.add_module(last, linear)


def _blank_of(shape: tuple[int, ...]) -> Tensor:
    """Zeros of any shape in the memory of one."""
    return torch.zeros(()).expand(shape)


def _blank(info: TensorInfo) -> Tensor:
    return _blank_of(info.shape) if info.is_floating else torch.zeros((), dtype=torch.int64).expand(info.shape)


def _read_in(dtype: torch.dtype) -> Callable[[TensorInfo], Tensor]:
    def read(info: TensorInfo) -> Tensor:
        tensor = read_tensor(info)
        return tensor.to(dtype) if info.is_floating else tensor

    return read
