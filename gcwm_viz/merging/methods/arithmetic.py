"""Task arithmetic, Σ_i ω_i Δ_i (arXiv 2212.04089), and the mean of updates, Σ_i ω_i Δ_i / Σ_i ω_i (arXiv 2203.05482).

The state rule scales the result by η, so that the model is θ_pre + η Σ_i ω_i Δ_i. With the default weights of 1 these
are the plain sum and the plain mean over the active updates that touch the matrix.
"""

from torch import Tensor

from gcwm_viz.linalg.lowrank import accumulate
from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.recipe import MergekitModels, Recipe
from gcwm_viz.merging.step import MergeStep


def weighted_sum(step: MergeStep) -> Tensor:
    """Σ_i ω_i Δ_i (d_out, d_in)."""
    total_oi = step.zeros()
    for _, delta, weight in step.active():
        accumulate(delta.to(dtype=total_oi.dtype), total_oi, weight)
    return total_oi


def weighted_mean(step: MergeStep) -> Tensor:
    """Σ_i ω_i Δ_i / Σ_i ω_i (d_out, d_in); zero without an update."""
    weight = sum(weight for _, _, weight in step.active())
    total_oi = weighted_sum(step)
    return total_oi / weight if weight > 0 else total_oi


def _sum_recipe(models: MergekitModels) -> Recipe:
    scaled = [factor * models.eta for factor in models.factors]
    return {"merge_method": "task_arithmetic", "base_model": models.base, "models": models.listed(scaled)}, []


def _mean_recipe(models: MergekitModels) -> Recipe:
    # base + η Σ ω_i s_i (θ_i − base) / Σ ω_i is the average of whole models, each with the weight ω_i s_i, in which the
    # base has what is left of Σ ω_i / η.
    total = sum(models.weights)
    rest = total * (1 - models.eta) / models.eta + (total - sum(models.factors))
    base = [{"model": models.base, "parameters": {"weight": rest}}] if rest else []
    remark = ["The base takes part so that the mean of updates is scaled by eta and strengths."] if rest else []
    return {"merge_method": "linear", "base_model": models.base, "models": models.listed() + base}, remark


TASK_ARITHMETIC = MergeMethod(
    name="task-arithmetic",
    source="arXiv 2212.04089",
    summary="sum of the updates",
    merge=lambda step: Merge.of(weighted_sum(step)),
    mergekit=_sum_recipe,
)
MEAN = MergeMethod(
    name="mean",
    source="arXiv 2203.05482",
    summary="mean of the updates",
    merge=lambda step: Merge.of(weighted_mean(step)),
    mergekit=_mean_recipe,
)
