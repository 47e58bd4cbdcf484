"""Whether an adapter's config names the base that it is used with; matching shapes do not prove it."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.hub import hub_id
from gcwm_viz.checkpoints.index import CheckpointIndex

# Parts of a name that say how weights are stored, not which they are; copies are often named by a commit or checksum.
_STORAGE = re.compile(
    r"bf16|fp16|fp32|fp8|f16|f32|nf4|int[48]|[48]bit|bnb|gptq|awq|gguf|hf|unsloth|dynamic|dequanti[sz]ed|safetensors"
    r"|[0-9a-f]{7,40}"
)
# Names of folders that could hold any model.
_GENERIC = re.compile(
    r"(base|model|models|checkpoint|ckpt|step|epoch|snapshot|weights|main|output|out|final|tmp|export|merged|llm"
    r"|pretrained|local|copy|download|downloads|data|cache|sft|lora|start|v)?\d*"
)
_CLASS = re.compile(r"(?P<kind>\w+?)(For[A-Z]\w*|LMHeadModel|DoubleHeadsModel|Model)?")
_LIBRARY = re.compile(r"transformers\.models\.(?P<kind>\w+)\.")


def base_warnings(base: CheckpointIndex, config: dict[str, Any]) -> list[str]:
    """What in an adapter's ``config`` names another base; empty where nothing does or nothing can be compared."""
    warnings = []
    folder = base.root.resolve()
    names = {base.root.name, hub_id(folder) or folder.name, str(base.config.get("_name_or_path") or "")}
    stated = config.get("base_model_name_or_path")
    if isinstance(stated, str) and _differ(stated, names):
        warnings.append(
            f"its adapter_config.json names the base {stated[:200]!r}, given is {str(base.root)!r}; shapes that fit do "
            "not show that it was trained on this one"
        )
    mapping = config.get("auto_mapping")
    kind = _another_kind(base, mapping) if isinstance(mapping, dict) else ""
    # transformers writes is_encoder_decoder where it is true.
    if config.get("task_type") == "SEQ_2_SEQ_LM" and base.config and base.config.get("is_encoder_decoder") is not True:
        kind = kind or "an encoder-decoder model (task_type 'SEQ_2_SEQ_LM')"
    if kind:
        own = base.config.get("model_type") or next(iter(_architectures(base)), "")
        warnings.append(
            f"its adapter_config.json says that it was trained on {kind}, and the base is a {str(own)[:50]!r}: its "
            "update means nothing there although the shapes fit"
        )
    return warnings


def _differ(stated: str, names: Iterable[str]) -> bool:
    identity, own = _identity(stated), {_identity(name) for name in names} - {""}
    return bool(identity and own) and identity not in own


def _identity(name: str) -> str:
    """The last component of a hub id or path, less case, separators and storage; empty where it is generic."""
    name = hub_id(Path(name)) or name
    last = re.split(r"[/\\]", name.strip().rstrip("/\\"))[-1].partition("@")[0].lower()
    parts = [part for part in re.split(r"[-_. ]+", last) if part and not _STORAGE.fullmatch(part)]
    return "" if all(_GENERIC.fullmatch(part) for part in parts) else "".join(parts)


def _architectures(base: CheckpointIndex) -> list[str]:
    listed = base.config.get("architectures")
    return [str(name) for name in listed] if isinstance(listed, list) else []


def _another_kind(base: CheckpointIndex, mapping: dict[str, Any]) -> str:
    """The model class of PEFT's ``auto_mapping`` where neither its kind nor its module is the base's; else empty."""
    stated = str(mapping.get("base_model_class") or "")[:100]
    architectures = {match["kind"] for name in _architectures(base) if (match := _CLASS.fullmatch(name))}
    match = _CLASS.fullmatch(stated)
    if match is None or not architectures or match["kind"] in architectures:
        return ""
    library = _LIBRARY.match(str(mapping.get("parent_library") or ""))
    configs = [config for config in (base.config, base.config.get("text_config")) if isinstance(config, dict)]
    types = [config.get("model_type") for config in configs]
    if library and any(isinstance(kind, str) and f"{kind}_".startswith(f"{library['kind']}_") for kind in types):
        return ""
    return f"a {stated}"
