"""PEFT LoRA adapters as updates of base tensors: Δ = scaling · B A, kept as two factors.

Scaling is lora_alpha / r, or lora_alpha / √r under rsLoRA (arXiv 2312.03732), with per-module ranks and alphas by
PEFT's pattern rule: a pattern matches a module name from any dot on to its end; the first match wins. B A has the
Linear layout (d_out, d_in) whether or not the module stores its weight transposed (fan_in_fan_out).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CheckpointIndex
from gcwm_viz.checkpoints.location import location, reached
from gcwm_viz.checkpoints.patterns import MOST_WORK, work
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.checkpoints.token_rows import TokenRows, token_rows
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank

_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>A|B)(?:\.default)?\.weight$")
_EMBEDDING = re.compile(r"^(?P<module>.+)\.lora_embedding_(?P<side>A|B)(?:\.default)?$")
_TOKENS = re.compile(r"^(?P<module>.+)\.token_adapter\.trainable_tokens_delta(?:\.default)?$")
# PEFT's prefix of every name, behind those of wrappers that the model was saved in.
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)*base_model\.model\.")
# Settings under which Δ is not scaling · B A of the base weights.
_VARIANTS = (
    *("use_qalora", "use_bdlora", "layer_replication", "alora_invocation_tokens", "target_parameters"),
    *("kasa_config", "velora_config", "monteclora_config", "arrow_config"),
)
# These initialisations leave the base as it is; the others (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ) subtract from it.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
_MOST_WORK_IN_ALL = 100_000_000
"""Steps of a search for all patterns of a table on all modules: some ten seconds."""


@dataclass(frozen=True)
class LoraModule:
    """One adapted module: factors ``a`` (r, d_in) and ``b`` (d_out, r), and the factor that multiplies B A."""

    module: str
    a: TensorInfo
    b: TensorInfo
    scaling: float

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) in Linear layout."""
        return self.b.shape[0], self.a.shape[1]

    def read(self, dtype: torch.dtype = torch.float32) -> LowRank:
        """The update as factors in ``dtype``, the scaling multiplied into the left one."""
        return LowRank(read_tensor(self.b).to(dtype) * self.scaling, read_tensor(self.a).to(dtype))


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter: ``modules`` by module name in the base, ``embeddings`` likewise (Δ = scaling·(B A)ᵀ),
    ``replaced`` = tensors stored whole (modules_to_save, trained biases) by base tensor name, ``tokens`` = single rows
    stored whole by module name."""

    index: CheckpointIndex
    modules: dict[str, LoraModule]
    embeddings: dict[str, LoraModule]
    replaced: dict[str, TensorInfo]
    tokens: dict[str, TokenRows]

    @classmethod
    def open(cls, root: str | Path) -> "Adapter":
        """Headers and config only. Raises InputError for pickle weights, another adapter type, DoRA and other variants
        whose update is not scaling·BA, a lone factor, or factors that disagree with the config."""
        root = reached(location(root))
        if not (root / ADAPTER_WEIGHTS).is_file():
            CheckpointIndex.open(root)  # raises for a folder without safetensors, and says why
            raise InputError(f"{root}: expected {ADAPTER_WEIGHTS} beside {ADAPTER_CONFIG}, found none")
        index = CheckpointIndex.from_files(root, [root / ADAPTER_WEIGHTS], ADAPTER_CONFIG)
        file = root / ADAPTER_CONFIG
        if index.config_file is None:
            raise InputError(f"{file}: missing, expected it beside {ADAPTER_WEIGHTS}")
        _check_kind(index.config, file)
        linear: dict[str, dict[str, TensorInfo]] = {}
        embedding: dict[str, dict[str, TensorInfo]] = {}
        replaced: dict[str, TensorInfo] = {}
        tokens: dict[str, TokenRows] = {}
        for name, info in index.tensors.items():
            bare = _PREFIX.sub("", name)
            if factor := _FACTOR.match(bare):
                linear.setdefault(factor["module"], {})[factor["side"]] = info
            elif factor := _EMBEDDING.match(bare):
                embedding.setdefault(factor["module"], {})[factor["side"]] = info
            elif rows := _TOKENS.match(bare):
                tokens[rows["module"]] = token_rows(rows["module"], info, index.config, file)
            elif "lora_magnitude_vector" in bare:
                raise InputError(f"{info.path}: tensor {name!r} belongs to a DoRA adapter, expected plain LoRA")
            elif bare.endswith(".lora_B.bias"):
                replaced[bare] = info
            elif ".lora_" in bare:
                raise InputError(f"{info.path}: tensor {name!r} is no plain LoRA factor, expected lora_A and lora_B")
            else:
                # PEFT stores a wrapped layer's own weight as base_layer, modules_to_save under the plain name.
                replaced[bare.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")] = info
        _check_patterns(index.config, linear.keys() | embedding.keys(), file)
        return cls(
            index,
            {module: _module(module, pair, index.config, file) for module, pair in sorted(linear.items())},
            {module: _module(module, pair, index.config, file) for module, pair in sorted(embedding.items())},
            replaced,
            tokens,
        )


def _check_kind(config: dict[str, Any], file: Path) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise InputError(f"{file}: expected peft_type 'LORA', found {str(kind)[:50]!r}")
    if config.get("use_dora"):
        raise InputError(
            f"{file}: use_dora is set, and a DoRA update is not scaling·BA; expected plain LoRA, or merge it first"
        )
    for setting in _VARIANTS:
        if config.get(setting):
            raise InputError(
                f"{file}: {setting} is set, expected a plain LoRA adapter; merge it first or train without"
            )
    start = config.get("init_lora_weights", True)
    if not any(start is plain or (isinstance(start, str) and start == plain) for plain in _PLAIN_STARTS):
        raise InputError(
            f"{file}: init_lora_weights {str(start)[:50]!r} changes the base weights, so BA is not the update; "
            f"expected plain LoRA: convert it with save_pretrained(…, path_initial_model_for_weight_conversion=…)"
        )


def _module(module: str, pair: dict[str, TensorInfo], config: dict[str, Any], file: Path) -> LoraModule:
    if pair.keys() != {"A", "B"}:
        side, lone = next(iter(pair.items()))
        raise InputError(
            f"{lone.path}: tensor {lone.name!r} has no partner, expected lora_{'B' if side == 'A' else 'A'} too"
        )
    a, b = pair["A"], pair["B"]
    for info in (a, b):
        if not info.is_floating or len(info.shape) != 2:
            raise InputError(
                f"{info.path}: tensor {info.name!r} must be a 2-D floating matrix, found {info.dtype} {info.shape}"
            )
    rank = _by_pattern(module, config, "rank_pattern", "r", file)
    if not (a.shape[0] == b.shape[1] == rank):
        raise InputError(
            f"{a.path}: factors of {module!r} have shapes {a.shape} and {b.shape}, "
            f"expected rank {rank:g} from {file.name}"
        )
    alpha = _by_pattern(module, config, "alpha_pattern", "lora_alpha", file)
    return LoraModule(module, a, b, alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _by_pattern(module: str, config: dict[str, Any], patterns: str, default: str, file: Path) -> float:
    table = config.get(patterns) or {}
    if not isinstance(table, dict):
        raise InputError(f"{file}: {patterns} must map patterns to numbers, found {type(table).__name__}")
    value = config.get(default)
    for pattern, own in table.items():
        if _matches(pattern, module, file, patterns):
            value = own
            break
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise InputError(f"{file}: {default} of {module!r} must be a positive number, found {str(value)[:50]!r}")
    return value


def _check_patterns(config: dict[str, Any], modules: Collection[str], file: Path) -> None:
    """Every pattern of a table may be tried on every module, so their total work is bounded too."""
    longest = max(map(len, modules), default=0)
    for setting in ("rank_pattern", "alpha_pattern"):
        table = config.get(setting)
        patterns = list(table) if isinstance(table, dict) else []
        each = (work(pattern[:500], max(100, longest)) for pattern in patterns)
        # A pattern beyond its own limit is refused, by name, where it is used.
        if len(modules) * sum(steps for steps in each if steps <= MOST_WORK) > _MOST_WORK_IN_ALL:
            raise InputError(f"{file}: {setting} holds {len(patterns)} patterns, expected fewer or simpler ones")


def _matches(pattern: str, module: str, file: Path, setting: str) -> bool:
    # A pattern comes from a file, and one of many choices could backtrack almost without end.
    if len(pattern) > 500 or work(pattern, max(100, len(module))) > MOST_WORK:
        raise InputError(f"{file}: {setting} holds the pattern {pattern[:80]!r}, expected a simpler one")
    try:
        return re.match(rf"(.*\.)?({pattern})$", module) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(
            f"{file}: {setting} holds the pattern {pattern[:80]!r} that is no regular expression ({error})"
        ) from None
