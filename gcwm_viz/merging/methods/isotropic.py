"""Iso-C and Iso-CTS (arXiv 2502.04959): the directions of the sum, all with the same singular value.

Iso-CTS replaces the trailing directions of the sum by those of each update that the leading ones leave out. Weights
scale the updates, so that the sum is Σ_i ω_i Δ_i as in task arithmetic.

Directions are those that the updates have: singular values of zero have no direction and are not in the mean, where the
authors' code gives them an arbitrary one. For a sum of full rank this is the paper's formula with all min(d) of them,
for adapters that of their core space (arXiv 2509.17786), in which the full space's null directions do not exist. An
adapter that was added to its base and rounded has all min(d) directions, most of them rounding, and both methods lift
these too: give them the adapter itself.
"""

from dataclasses import dataclass

import torch

from gcwm_viz.linalg.lowrank import Update, map_columns, norm
from gcwm_viz.linalg.triplets import (
    Triplets,
    composed,
    double,
    joint_directions,
    polar,
    thin,
    total,
    triplets,
)
from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.settings.declare import Settings, number


@dataclass(frozen=True, kw_only=True)
class IsoCtsSettings(Settings):
    iso_common: float = number(
        0.8, "share of Iso-CTS's directions that are the sum's leading ones, the rest the updates' own", least=0, most=1
    )


def iso_c(step: MergeStep) -> Merge:
    """σ̄ UVᵀ with Σ_i ω_i Δ_i = UΣVᵀ (d_out, d_in) and σ̄ the mean of Σ; zero where the sum is."""
    active = step.active()
    if not active:
        return Merge.of(step.zeros())
    of_sum, factored = _of_sum(active)
    return _isotropic(step, of_sum.left_ok, of_sum.values_k, of_sum.right_ki, factored)


def iso_cts(step: MergeStep) -> Merge:
    """σ̄ polar(U) polar(V)ᵀ of k leading triplets of the sum, U_c the left ones, and n of each (I − U_cU_cᵀ) ω_iΔ_i.

    Of D directions, min(d) for updates that fill the matrix, n = round((D − ⌊share·D⌋) / m) and k = D − nm, as in the
    authors' code; σ̄ is the mean over all that were taken.
    """
    active = step.active()
    if not active:
        return Merge.of(step.zeros())
    (of_sum, factored), m = _of_sum(active), len(active)
    count = min(step.shape)
    if of_sum.count < count:
        count = joint_directions([triplets(double(delta)) for _, delta, _ in active])
    own = min(round((count - int(step.settings.iso_common * count)) / m), count // m)
    common = of_sum.leading(count - own * m)
    taken = [
        triplets(_without(double(delta, weight), common), weight * norm(delta)).leading(own)
        for _, delta, weight in active
    ]
    taken.append(common)
    return _isotropic(
        step,
        polar(torch.cat([part.left_ok for part in taken], dim=1)),
        torch.cat([part.values_k for part in taken]),
        polar(torch.cat([part.right_ki for part in taken])),
        factored,
    )


def _of_sum(active: list[tuple[str, Update, float]]) -> tuple[Triplets, bool]:
    """Of Σ_i ω_i Δ_i, and whether the merge is stored as factors."""
    deltas, weights = [delta for _, delta, _ in active], [weight for _, _, weight in active]
    factored = thin(deltas)
    scale = sum(weight * norm(delta) for delta, weight in zip(deltas, weights, strict=True))
    return triplets(total(deltas, weights, factored), scale), factored


def _without(delta: Update, common: Triplets) -> Update:
    """(I − U_cU_cᵀ)Δ, in the form of Δ."""
    u_ok = common.left_ok
    return map_columns(delta, lambda x_oc: x_oc - u_ok @ (u_ok.mT @ x_oc))


def _isotropic(
    step: MergeStep, left_oc: torch.Tensor, values_c: torch.Tensor, right_ci: torch.Tensor, factored: bool
) -> Merge:
    mean = float(values_c.mean()) if len(values_c) else 0.0
    return Merge.of(composed(mean * left_oc, right_ci, factored).to(step.deltas[0].device, step.work_dtype))


ISO_C = MergeMethod(
    name="iso-c",
    source="arXiv 2502.04959",
    summary="the sum's directions, all with the same singular value",
    merge=iso_c,
    factored=lambda config: True,
)
ISO_CTS = MergeMethod(
    name="iso-cts",
    source="arXiv 2502.04959",
    summary="directions of the sum and of each update, all with the same singular value",
    merge=iso_cts,
    settings=IsoCtsSettings,
    factored=lambda config: True,
)
