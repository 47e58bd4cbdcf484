"""Localize-and-Stitch, the form that needs no data (arXiv 2408.13656): each update's largest entries, stitched.

The region of an update is its top ``localize_keep`` of magnitudes. It is chosen per matrix, as everything here is; the
paper ranks the entries of the whole model together. It works on entries, so adapters are written out.
"""

from dataclasses import dataclass

import torch

from gcwm_viz.merging.magnitude import top_magnitudes
from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.settings.declare import Settings, number


@dataclass(frozen=True, kw_only=True)
class LocalizeSettings(Settings):
    localize_keep: float = number(
        0.05, "share of each update's entries in the mask of Localize-and-Stitch, the largest", above=0, most=1
    )


def localize_and_stitch(step: MergeStep) -> Merge:
    """Σ_i ω_i m_i ⊙ Δ_i / Σ_i ω_i m_i for each entry (d_out, d_in), m_i the mask of update i; 0 outside every mask.

    Where masks overlap this is the mean of the updates that claim the entry, whatever their signs. An entry of zero
    is in no mask, however few entries an update has.
    """
    total_oi = step.zeros()
    share_oi = torch.zeros_like(total_oi)
    for _, delta, weight in step.active_dense():
        mask = top_magnitudes(delta, step.settings.localize_keep)
        total_oi.add_(torch.where(mask, delta, 0.0), alpha=weight)
        share_oi.add_(mask.to(share_oi.dtype), alpha=weight)
    return Merge.of(total_oi / torch.where(share_oi > 0, share_oi, 1.0))


LOCALIZE_AND_STITCH = MergeMethod(
    name="localize-and-stitch",
    source="arXiv 2408.13656",
    summary="largest entries of each update, stitched without data",
    merge=localize_and_stitch,
    settings=LocalizeSettings,
)
