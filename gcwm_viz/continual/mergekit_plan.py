"""A mergekit configuration as a plan, where the merge is one that we have.

mergekit merges every tensor, a run the target matrices; on these both agree. Read are task_arithmetic, linear, ties,
dare_linear and dare_ties over whole models with one weight each; anything else is named and refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NORMALISED = {"task_arithmetic": False, "linear": True, "ties": True, "dare_linear": False, "dare_ties": False}
"""mergekit's own default, whether it divides by the weights."""
MARK = "merge_method"
"""An entry that every mergekit configuration has, and no plan."""
METHODS = {
    "task_arithmetic": "task-arithmetic",
    "linear": "task-arithmetic",
    "ties": "ties",
    "dare_linear": "dare",
    "dare_ties": "dare-ties",
}
"""By mergekit's names. Of a linear average the base's share only scales what the others add."""
_READ = (MARK, "base_model", "models", "parameters")
_IGNORED = ("dtype", "out_dtype", "tokenizer_source", "tokenizer", "name", "chat_template")
"""What it does not say about the merge of the target matrices."""
_OF_MODEL = {"weight", "density"}
_OF_MERGE = {"weight", "density", "normalize", "lambda", "int8_mask", "rescale"}


class MergekitError(Exception):
    """Why a configuration cannot be read: the rest of a sentence that begins with its name."""


@dataclass(frozen=True)
class Mergekit:
    """``updates``: (name, model as text). ``strengths`` by name; ``settings`` as ``--set`` takes them."""

    base: str
    method: str
    updates: tuple[tuple[str, str], ...]
    strengths: dict[str, float]
    settings: dict[str, float]


def read_mergekit(values: Mapping[Any, Any]) -> Mergekit:
    """The content of a configuration. Raises :class:`MergekitError`."""
    unknown = sorted(str(key)[:50] for key in values if key not in (*_READ, *_IGNORED))
    if unknown:
        raise MergekitError(f"is a mergekit configuration with {unknown[0]!r}, and only whole models can be read")
    name = values[MARK]
    if name not in METHODS:
        raise MergekitError(f"asks mergekit for {str(name)[:50]!r}; of its methods {', '.join(METHODS)} can be read")
    shared = _parameters(values.get("parameters"), _OF_MERGE)
    models = values.get("models")
    if not isinstance(models, list) or not models:
        raise MergekitError("lists no models")
    entries = [_entry(number, model, shared) for number, model in enumerate(models, start=1)]
    base = values.get("base_model")
    if not isinstance(base, str):
        raise MergekitError("names no base_model, and an update is a difference from a base")
    updates = [entry for entry in entries if entry.model != base]
    if not updates:
        raise MergekitError("merges nothing but its base_model")
    normalises = bool(shared.get("normalize", NORMALISED[name]))
    if METHODS[name] in ("task-arithmetic", "dare"):
        averaged = entries if name == "linear" else updates
        strengths = _strengths(updates, sum(entry.weight for entry in averaged) if normalises else 1.0)
    elif normalises and len({entry.weight for entry in updates}) == 1:  # mergekit divides by what it multiplies with
        strengths = {}
    else:
        raise MergekitError(f"weights the models of {name} differently or does not normalise, which is not ours")
    listed = zip(_names(updates), (entry.model for entry in updates), strict=True)
    return Mergekit(base, METHODS[name], tuple(listed), strengths, _settings(name, updates, shared))


@dataclass(frozen=True)
class _Entry:
    model: str
    weight: float
    density: float


def _entry(number: int, model: Any, shared: Mapping[str, float]) -> _Entry:
    if not isinstance(model, dict) or not isinstance(model.get("model"), str) or set(model) - {"model", "parameters"}:
        raise MergekitError(f"must give model {number} as model and parameters")
    own = dict(shared) | _parameters(model.get("parameters"), _OF_MODEL)
    return _Entry(model["model"], own.get("weight", 1.0), own.get("density", 1.0))


def _parameters(values: Any, known: set[str]) -> dict[str, float]:
    """Numbers by name; a list or a map of values by layer or tensor is refused."""
    if values is None:
        return {}
    if not isinstance(values, dict) or set(values) - known:
        raise MergekitError(f"has parameters other than {', '.join(sorted(known))}")
    for name, value in values.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise MergekitError(f"gives {name} by layer or tensor, and one number for a whole model can be read")
    return {name: float(value) for name, value in values.items()}


def _strengths(updates: list[_Entry], whole: float) -> dict[str, float]:
    """Weights over ``whole``, by update."""
    if whole <= 0:
        raise MergekitError("has weights that add up to zero")
    return {own: entry.weight / whole for own, entry in zip(_names(updates), updates, strict=True)}


def _settings(name: str, updates: list[_Entry], shared: Mapping[str, float]) -> dict[str, float]:
    settings = {"eta": shared.get("lambda", 1.0)}
    if name == "ties":
        settings["ties_keep"] = _common(updates)
    if name.startswith("dare"):
        settings["dare_drop"] = 1.0 - _common(updates)
    if name == "dare_ties":
        settings["ties_keep"] = 1.0
    return settings


def _common(updates: list[_Entry]) -> float:
    if len({entry.density for entry in updates}) > 1:
        raise MergekitError("gives its models different densities, and one for all can be read")
    return updates[0].density


def _names(updates: list[_Entry]) -> list[str]:
    """The models' last parts, each once."""
    names: list[str] = []
    for entry in updates:
        last = Path(entry.model.split("+")[-1].split("@")[0]).name or "update"
        names.append(last if last not in names else f"{last}-{len(names) + 1}")
    return names
