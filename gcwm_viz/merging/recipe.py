"""A merge in mergekit's terms, which a method that mergekit has too declares beside its formula."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gcwm_viz.errors import InputError

Recipe = tuple[dict[str, Any], list[str]]
"""Entries of a mergekit configuration, and remarks on what mergekit does otherwise."""


@dataclass(frozen=True)
class MergekitModels:
    """The active updates of a run as models: paths, weights ω, the updates' strengths s, the base, η, and the method's
    own settings."""

    models: Sequence[str]
    weights: Sequence[float]
    strengths: Sequence[float]
    base: str
    eta: float
    settings: Any

    @property
    def factors(self) -> list[float]:
        """ωs of every model: what its change is multiplied by in a sum."""
        return [weight * strength for weight, strength in zip(self.weights, self.strengths, strict=True)]

    @property
    def common_strength(self) -> float:
        """The strength of all updates, for a method whose division by weights does not divide by strengths.

        Raises :class:`InputError` where they differ.
        """
        if len(set(self.strengths)) > 1:
            raise InputError(
                "mergekit divides by the weights of the updates that agree in an entry, and has no strengths beside "
                "them: expected the same strength for all updates"
            )
        return self.strengths[0]

    def listed(self, weights: Sequence[float] | None = None, **parameters: Any) -> list[dict[str, Any]]:
        """One entry per model with its weight, ωs by default; ``parameters`` are the same for all."""
        pairs = zip(self.models, self.factors if weights is None else weights, strict=True)
        return [{"model": model, "parameters": {"weight": weight} | parameters} for model, weight in pairs]
