"""A merge in mergekit's terms, which a method that mergekit has too declares beside its formula."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Recipe = tuple[dict[str, Any], list[str]]
"""Entries of a mergekit configuration, and remarks on what mergekit does otherwise."""


@dataclass(frozen=True)
class MergekitModels:
    """The active updates of a run as models: paths, weights ω, the base, η, and the method's own settings."""

    models: Sequence[str]
    weights: Sequence[float]
    base: str
    eta: float
    settings: Any

    def listed(self, weights: Sequence[float] | None = None, **parameters: Any) -> list[dict[str, Any]]:
        """One entry per model with its weight, ω by default; ``parameters`` are the same for all."""
        pairs = zip(self.models, self.weights if weights is None else weights, strict=True)
        return [{"model": model, "parameters": {"weight": weight} | parameters} for model, weight in pairs]
