"""PEFT adapters as updates of base tensors, one module at a time: LoRA in its forms as :mod:`lora` reads them, others
by peft's own layers (:mod:`peft_layers`); and what an adapter stores beside them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import ADAPTER_CONFIG, ADAPTER_WEIGHTS, CheckpointIndex
from gcwm_viz.checkpoints.location import location, reached
from gcwm_viz.checkpoints.lora import LoraModule, factor_pair, lora_module, rank_of
from gcwm_viz.checkpoints.patterns import check_patterns
from gcwm_viz.checkpoints.peft_layers import MERGE, PeftLayers
from gcwm_viz.checkpoints.token_rows import TokenRows, token_rows
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update

_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<part>A|B|E)(?:\.default)?(?:\.weight)?$")
_EMBEDDING = re.compile(r"^(?P<module>.+)\.lora_embedding_(?P<part>A|B)(?:\.default)?$")
_MAGNITUDE = re.compile(r"^(?P<module>.+)\.lora_(?P<part>magnitude)_vector(?:\.default)?(?:\.weight)?$")
_TOKENS = re.compile(r"^(?P<module>.+)\.token_adapter\.trainable_tokens_delta(?:\.default)?$")
# What VeLoRA and MonteCLoRA keep for training on; their update is plain.
_TRAINING = re.compile(r"\.lora_(velora_embed|monteclora_sampler)\b")
# PEFT's prefix of every name, behind those of wrappers that the model was saved in.
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)*base_model\.model\.")

_NO_UPDATE = {
    "use_qalora": "its factors act on pooled inputs of a quantised base, and peft cannot merge them into weights",
    "alora_invocation_tokens": "it acts on what follows certain tokens, which no change of the weights does",
    "arrow_config": "it chooses between adapters token by token, which no change of the weights does; take these alone",
    "layer_replication": "its model has layers that the base does not have",
}
"""LoRA settings under which the adapter is no update of the base's matrices that can be read, and why."""
_BY_PEFT = ("use_bdlora", "kasa_config")
"""LoRA settings under which peft merges the adapter."""
# These initialisations leave the base as it is; the others subtract from it, and these from what follows from it.
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")
_STARTS_OF_BASE = ("pissa", "olora")
_CONVERTED = ("pissa", "corda", "lora_ga")


class AdaptedModule(Protocol):
    """One adapted module: its name and (d_out, d_in) in Linear layout, what is read for its update, and the update."""

    @property
    def module(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def rank(self) -> int | None:
        """Columns of the update's factors; None where it is dense."""

    @property
    def tensors(self) -> list[TensorInfo]: ...

    @property
    def nbytes(self) -> int:
        """Bytes to read for the update, the weight left out."""

    @property
    def needs_weight(self) -> bool:
        """Whether Δ depends on the weight that the adapter was trained on."""

    def read(self, dtype: torch.dtype, weight: Callable[[], Tensor]) -> Update:
        """Δ in ``dtype``; ``weight`` reads that weight, (d_out, d_in)."""


@dataclass(frozen=True)
class Adapter:
    """An adapter: ``modules`` by module name in the base, ``embeddings`` likewise (Δ = scaling·(B A)ᵀ),
    ``layers`` = modules of another kind than LoRA, ``replaced`` = tensors stored whole (modules_to_save, trained
    biases) by base tensor name, ``bias_changes`` = what is added to a bias (scaled as the module), by module name,
    ``tokens`` = single rows stored whole by module name, ``parameters`` = pairs of factors of parameters
    (``target_parameters``) that stack experts, by module and level: ``.base_layer`` for every parameter of the same
    module that was wrapped later."""

    index: CheckpointIndex
    modules: dict[str, LoraModule]
    embeddings: dict[str, LoraModule]
    layers: PeftLayers | None
    replaced: dict[str, TensorInfo]
    bias_changes: dict[str, TensorInfo]
    tokens: dict[str, TokenRows]
    parameters: dict[str, tuple[TensorInfo, TensorInfo]]

    @classmethod
    def open(cls, root: str | Path) -> "Adapter":
        """Headers and config only. Raises InputError for pickle weights, an adapter that is no update of weights or
        that neither the project nor peft can merge, a lone factor, or factors that disagree with the config."""
        root = reached(location(root))
        if not (root / ADAPTER_WEIGHTS).is_file():
            CheckpointIndex.open(root)  # raises for a folder without safetensors, and says why
            raise InputError(f"{root}: expected {ADAPTER_WEIGHTS} beside {ADAPTER_CONFIG}, found none")
        index = CheckpointIndex.from_files(root, [root / ADAPTER_WEIGHTS], ADAPTER_CONFIG)
        file = root / ADAPTER_CONFIG
        if index.config_file is None:
            raise InputError(f"{file}: missing, expected it beside {ADAPTER_WEIGHTS}")
        config = index.config
        layers = _layers(config, file)
        start = "" if layers is not None else _start(config, file)
        parts: dict[str, dict[str, TensorInfo]] = {}
        embedding: dict[str, dict[str, TensorInfo]] = {}
        replaced: dict[str, TensorInfo] = {}
        bias_changes: dict[str, TensorInfo] = {}
        tokens: dict[str, TokenRows] = {}
        for name, info in index.tensors.items():
            bare = _PREFIX.sub("", name)
            if layers is not None and layers.take(name, bare, info):
                continue
            if part := _FACTOR.match(bare) or _MAGNITUDE.match(bare):
                parts.setdefault(part["module"], {})[part["part"]] = info
            elif part := _EMBEDDING.match(bare):
                embedding.setdefault(part["module"], {})[part["part"]] = info
            elif rows := _TOKENS.match(bare):
                tokens[rows["module"]] = token_rows(rows["module"], info, config, file)
            elif bare.endswith(".lora_B.bias"):
                bias_changes[bare.removesuffix(".lora_B.bias")] = info
            elif _TRAINING.search(bare):
                continue
            elif ".lora_" in bare:
                raise InputError(f"{info.path}: tensor {name!r} is no plain LoRA factor, expected lora_A and lora_B")
            else:
                # PEFT stores a wrapped layer's own weight as base_layer, modules_to_save under the plain name.
                replaced[bare.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")] = info
        for module, own in embedding.items():
            own.update(parts.pop(module, {}))
        if config.get("peft_type") == "LORA":
            check_patterns(config, parts.keys() | embedding.keys(), file)
        parameters = {
            module: factor_pair(parts.pop(module))
            for module, own in sorted(parts.items())
            # Of a module, or of a parameter of two dimensions, the factors have the rank of the config.
            if config.get("target_parameters") and "A" in own and own["A"].shape[:1] != (rank_of(module, config, file),)
        }
        return cls(
            index,
            {module: lora_module(module, own, config, file, start) for module, own in sorted(parts.items())},
            {module: lora_module(module, own, config, file, start) for module, own in sorted(embedding.items())},
            layers,
            replaced,
            bias_changes,
            tokens,
            parameters,
        )


def _layers(config: dict[str, Any], file: Path) -> PeftLayers | None:
    """The layers that peft merges, without their tensors; None for a form of LoRA that is read here."""
    if config.get("peft_type") not in ("LORA", "ADALORA"):
        return PeftLayers.of(config, file)
    for setting, why in _NO_UPDATE.items():
        if config.get(setting):
            raise InputError(f"{file}: {setting} is set, expected a LoRA adapter without it: {why}")
    return PeftLayers.of(config, file) if any(config.get(setting) for setting in _BY_PEFT) else None


def _start(config: dict[str, Any], file: Path) -> str:
    """The initialisation that was subtracted from the base where it follows from the base, else empty."""
    start = config.get("init_lora_weights", True)
    if any(start is plain or (isinstance(start, str) and start == plain) for plain in _PLAIN_STARTS):
        return ""
    if start in _STARTS_OF_BASE:
        return str(start)
    if str(start).startswith(_CONVERTED):
        remedy = "convert it with save_pretrained(…, path_initial_model_for_weight_conversion=…)"
    else:
        remedy = f"merge it into the weights that it was trained on, with {MERGE}"
    raise InputError(
        f"{file}: init_lora_weights {str(start)[:50]!r} changes the base weights by what is not stored, so BA is not "
        f"the update; expected plain LoRA, PiSSA by a whole SVD, or OLoRA: {remedy}"
    )
