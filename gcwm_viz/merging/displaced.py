"""Branches as displacements from the plain sum of updates."""

import torch

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, norm
from gcwm_viz.merging.step import work_dtype


def displaced(start: Update, displacement: Update) -> Update:
    """M₀ + D. A factored D has the right factor of M₀, whatever linear map of rows it was computed under."""
    if isinstance(start, LowRank) and isinstance(displacement, LowRank):
        return LowRank(start.left_or + displacement.left_or, start.right_ri)
    return dense(start) + dense(displacement)


def build_dtype(config: GCWMConfig, device: torch.device) -> torch.dtype:
    """The dtype in which the quadratic is built and minimised: float64, except on MPS, which has none.

    Adam follows the sign of a gradient however small it is, and the closed form divides by small eigenvalues of H:
    rounding the quadratic to float32 would change both.
    """
    return work_dtype(config) if device.type == "mps" else torch.float64


def relative_shift(displacement: Update, start: Update) -> float:
    """‖D‖_F / ‖Σ Δ_i‖_F; NaN where the sum is zero."""
    scale = norm(start)
    return norm(displacement) / scale if scale > 0 else float("nan")
