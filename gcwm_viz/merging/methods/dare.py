"""DARE (arXiv 2311.03099): drop entries of each update at random, rescale the rest by 1/(1 − p), then merge.

The mask of an update depends on the seed, the matrix and the update's name alone: not on the order of matrices or
updates, nor on the device. It works on entries, so adapters are written out.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.methods.ties import TiesSettings, trim_elect_mean
from gcwm_viz.merging.recipe import MergekitModels, Recipe
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.settings.declare import Settings, integer, number

MAX_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class DareSettings(Settings):
    dare_drop: float = number(0.9, "probability p with which DARE drops an entry", least=0, below=1)
    dare_seed: int = integer(0, "seed of DARE's masks", least=0, most=MAX_SEED)


@dataclass(frozen=True, kw_only=True)
class DareTiesSettings(DareSettings, TiesSettings):
    """Both."""


def dare(step: MergeStep) -> Merge:
    """Σ_i ω_i Δ̃_i (d_out, d_in), Δ̃_i the dropped and rescaled update."""
    total_oi = step.zeros()
    for name, delta, weight in step.active_dense():
        total_oi.add_(drop_and_rescale(delta, step.matrix, name, step.settings), alpha=weight)
    return Merge.of(total_oi)


def dare_ties(step: MergeStep) -> Merge:
    """TIES, its trimming included, of the dropped and rescaled updates (d_out, d_in).

    Trimming counts the entries of the whole matrix, so it changes nothing while 1 − p stays below ``ties_keep``.
    """
    active = step.active_dense()
    if not active:
        return Merge.of(step.zeros())
    sparse = [drop_and_rescale(delta, step.matrix, name, step.settings) for name, delta, _ in active]
    return Merge.of(trim_elect_mean(sparse, [weight for _, _, weight in active], step.settings.ties_keep))


def drop_and_rescale(delta_oi: Tensor, matrix: str, update: str, settings: DareSettings) -> Tensor:
    """m ⊙ Δ / (1 − p) with m ~ Bernoulli(1 − p) for each entry: the expectation is Δ."""
    if settings.dare_drop == 0:
        return delta_oi
    key = json.dumps([settings.dare_seed, matrix, update]).encode()
    generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1)
    keeps = torch.rand(delta_oi.shape, generator=generator) >= settings.dare_drop
    return torch.where(keeps.to(delta_oi.device), delta_oi / (1 - settings.dare_drop), 0.0)


def _recipe(models: MergekitModels) -> Recipe:
    return _described(models, "dare_linear", models.factors, {"normalize": False, "lambda": models.eta})


def _described(
    models: MergekitModels, method: str, weights: Sequence[float], parameters: dict[str, bool | float]
) -> Recipe:
    listed = models.listed(weights, density=1 - models.settings.dare_drop)
    return {"merge_method": method, "base_model": models.base, "models": listed, "parameters": parameters}, [
        "DARE's masks are drawn anew: another sample of the same distribution. mergekit rescales to each update's norm."
    ]


def _ties_recipe(models: MergekitModels) -> Recipe:
    parameters = {"normalize": True, "lambda": models.eta * models.common_strength}
    recipe, remark = _described(models, "dare_ties", models.weights, parameters)
    if 1 - models.settings.dare_drop > models.settings.ties_keep:
        remark.append("This run also trimmed by magnitude (ties_keep), which mergekit's dare_ties does not.")
    return recipe, remark


DARE = MergeMethod(
    name="dare",
    source="arXiv 2311.03099",
    summary="random entries, rescaled, then summed",
    merge=dare,
    settings=DareSettings,
    mergekit=_recipe,
)
DARE_TIES = MergeMethod(
    name="dare-ties",
    source="arXiv 2311.03099",
    summary="random entries, rescaled, then TIES",
    merge=dare_ties,
    settings=DareTiesSettings,
    mergekit=_ties_recipe,
)
