"""Localize-and-Stitch, the form that needs no data (arXiv 2408.13656): each update's largest entries, stitched.

The region of an update is its top ``localize_keep`` of magnitudes. It is taken by matrix, as everything here is; the
paper ranks the entries of the whole model together.
"""

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.merging.magnitude import top_magnitudes
from gcwm_viz.merging.step import MergeStep


def localize_and_stitch(step: MergeStep, config: GCWMConfig) -> Tensor:
    """Σ_i ω_i m_i ⊙ Δ_i / Σ_i ω_i m_i for each entry (d_out, d_in), m_i the mask of update i; 0 outside every mask.

    Where masks overlap this is the mean of the updates that claim the entry, whatever their signs. An entry of zero
    is in no mask, however few entries an update has.
    """
    total_oi = step.zeros(config)
    share_oi = torch.zeros_like(total_oi)
    for _, delta, weight in step.active_dense(config):
        mask = top_magnitudes(delta, step.options.localize_keep)
        total_oi.add_(torch.where(mask, delta, 0.0), alpha=weight)
        share_oi.add_(mask.to(share_oi.dtype), alpha=weight)
    return total_oi / torch.where(share_oi > 0, share_oi, 1.0)
