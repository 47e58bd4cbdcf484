"""TIES (arXiv 2306.01708): trim each update, elect a sign for each entry, average the updates that agree with it.

Trimming is per matrix, as everything here is; the paper ranks the entries of the whole model together. It works on
entries, so adapters are written out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.merging.magnitude import top_magnitudes
from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.recipe import MergekitModels, Recipe
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.settings.declare import Settings, number


@dataclass(frozen=True, kw_only=True)
class TiesSettings(Settings):
    ties_keep: float = number(0.2, "share of each update's entries that TIES keeps, the largest", above=0, most=1)


def ties(step: MergeStep) -> Merge:
    """Trim to ``ties_keep``, elect, disjoint mean (d_out, d_in)."""
    active = step.active_dense()
    if not active:
        return Merge.of(step.zeros())
    deltas, weights = [delta for _, delta, _ in active], [weight for _, _, weight in active]
    return Merge.of(trim_elect_mean(deltas, weights, step.settings.ties_keep))


def trim_elect_mean(deltas: Sequence[Tensor], weights: Sequence[float], keep: float) -> Tensor:
    """Σ_{i ∈ A} ω_i Δ̂_i / Σ_{i ∈ A} ω_i for each entry, Δ̂_i the trimmed update (d_out, d_in).

    A: updates whose trimmed entry has the sign of Σ_i ω_i Δ̂_i, the larger total mass. Where positive and negative
    mass are exactly equal, or no update keeps the entry, no sign is elected and the result is 0.
    """
    trimmed = [torch.where(top_magnitudes(delta, keep), delta, 0.0) for delta in deltas]
    mass_oi = torch.zeros_like(trimmed[0])
    for delta, weight in zip(trimmed, weights, strict=True):
        mass_oi.add_(delta, alpha=weight)
    sign_oi = mass_oi.sign()
    total_oi, share_oi = torch.zeros_like(mass_oi), torch.zeros_like(mass_oi)
    for delta, weight in zip(trimmed, weights, strict=True):
        agrees = (delta != 0) & (delta.sign() == sign_oi)
        total_oi.add_(torch.where(agrees, delta, 0.0), alpha=weight)
        share_oi.add_(agrees.to(share_oi.dtype), alpha=weight)
    return total_oi / torch.where(share_oi > 0, share_oi, 1.0)


def _recipe(models: MergekitModels) -> Recipe:
    listed = models.listed(models.weights, density=models.settings.ties_keep)
    # Trim and election do not depend on a strength that all updates share.
    parameters = {"normalize": True, "lambda": models.eta * models.common_strength}
    return {"merge_method": "ties", "base_model": models.base, "models": listed, "parameters": parameters}, []


TIES = MergeMethod(
    name="ties",
    source="arXiv 2306.01708",
    summary="largest entries, one sign for each, mean of those that agree",
    merge=ties,
    settings=TiesSettings,
    mergekit=_recipe,
)
