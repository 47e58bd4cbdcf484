"""TSV-M (arXiv 2412.00081): leading singular triplets of every update side by side, their vectors made orthonormal.

Weights scale the updates, and with them their singular values. Triplets with σ = 0 do not take part, and vectors that
depend on each other are reduced to the directions that they span, where the authors' code lets arbitrary vectors in: so
adapters, whose triplets are all kept while rank · m ≤ min(d), give what the same matrices written out give.
"""

import torch

from gcwm_viz.linalg.triplets import composed, double, polar, thin, triplets
from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.step import MergeStep


def tsv_m(step: MergeStep) -> Merge:
    """polar([U_1 …]) diag(σ_1 …) polar([V_1 …])ᵀ (d_out, d_in) of the ⌊min(d)/m⌋ leading triplets of each ω_iΔ_i; at
    least one."""
    active = step.active()
    if not active:
        return Merge.of(step.zeros())
    kept = max(1, min(step.shape) // len(active))
    parts = [triplets(double(delta, weight)).leading(kept) for _, delta, weight in active]
    left_oc = polar(torch.cat([part.left_ok for part in parts], dim=1)) * torch.cat([part.values_k for part in parts])
    right_ci = polar(torch.cat([part.right_ki for part in parts]))
    return Merge.of(
        composed(left_oc, right_ci, thin([delta for _, delta, _ in active])).to(step.deltas[0].device, step.work_dtype)
    )


TSV_M = MergeMethod(
    name="tsv-m",
    source="arXiv 2412.00081",
    summary="leading singular vectors of each update, decorrelated",
    merge=tsv_m,
    factored=lambda config: True,
)
