"""Whether an adapter's own config speaks of the base that it is given with; shapes that fit are no proof of that."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.hub import hub_id
from gcwm_viz.checkpoints.index import CheckpointIndex

# Parts of a name that say how weights are stored, not which they are; a copy is often told by its commit or checksum.
_STORAGE = re.compile(
    r"bf16|fp16|fp32|fp8|f16|f32|nf4|int[48]|[48]bit|bnb|gptq|awq|gguf|hf|unsloth|dynamic|dequanti[sz]ed|safetensors"
    r"|[0-9a-f]{7,40}"
)
# Folders that are called after what they hold in general.
_GENERIC = re.compile(
    r"(base|model|models|checkpoint|ckpt|step|epoch|snapshot|weights|main|output|out|final|tmp|export|merged|llm"
    r"|pretrained|local|copy|download|downloads|data|cache|sft|lora|start|v)?\d*"
)
_CLASS = re.compile(r"(?P<kind>\w+?)(For[A-Z]\w*|LMHeadModel|DoubleHeadsModel|Model)?")
_LIBRARY = re.compile(r"transformers\.models\.(?P<kind>\w+)\.")


def base_warnings(base: CheckpointIndex, config: dict[str, Any]) -> list[str]:
    """What in an adapter's ``config`` speaks of another base; empty where nothing does, or nothing can be compared."""
    found = []
    folder = base.root.resolve()
    known = {base.root.name, hub_id(folder) or folder.name, str(base.config.get("_name_or_path") or "")}
    stated = config.get("base_model_name_or_path")
    if isinstance(stated, str) and _differ(stated, known):
        found.append(
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
        found.append(
            f"its adapter_config.json says that it was trained on {kind}, and the base is a {str(own)[:50]!r}: its "
            "update means nothing there although the shapes fit"
        )
    return found


def _differ(stated: str, known: Iterable[str]) -> bool:
    name = _telling(stated)
    names = {telling for one in known if (telling := _telling(one))}
    return bool(name and names) and name not in names


def _telling(name: str) -> str:
    """The last component of a hub id or path, less case, separators and storage; empty where it could be any model."""
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
    if library and any(isinstance(one, str) and (one + "_").startswith(library["kind"] + "_") for one in types):
        return ""
    return f"a {stated}"
