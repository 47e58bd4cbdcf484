"""The plain branch alone: weighted WUDI without geometry (arXiv 2503.08099), as a method of its own."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import vector_norm
from gcwm_viz.merging.quadratic import build_quadratic, plain_sum
from gcwm_viz.merging.step import MergeStep, work_dtype
from gcwm_viz.merging.wudi import Solution, solve


@dataclass(frozen=True)
class PlainMerge:
    """``merged`` (d_out, d_in), and the solver's way there.

    shift: ‖merged − Σ Δ_i‖_F / ‖Σ Δ_i‖_F, NaN where the sum is zero. solution: None without an update.
    """

    merged: Tensor
    shift: float
    solution: Solution | None


def wudi(step: MergeStep, config: GCWMConfig) -> PlainMerge:
    """M(Δ) of METHOD section 2 by the configured solver."""
    active = step.active()
    if not active:
        return PlainMerge(step.zeros(config), float("nan"), None)
    build = build_dtype(config, active[0][1].device)
    kept = [delta.to(dtype=build) for _, delta, _ in active]
    total_oi = plain_sum(kept).to(work_dtype(config))
    solution = solve(build_quadratic(kept, [weight for _, _, weight in active]), config)
    solution = replace(solution, start_norm=vector_norm(total_oi))
    return PlainMerge(total_oi + solution.displacement_oi, relative_shift(solution.displacement_oi, total_oi), solution)


def build_dtype(config: GCWMConfig, device: torch.device) -> torch.dtype:
    """The type in which the quadratic is built and minimised: float64, but on MPS, which has none.

    Adam follows the sign of a gradient however small it is, and the closed form divides by small eigenvalues of H:
    float32's rounding of the quadratic would move both.
    """
    return work_dtype(config) if device.type == "mps" else torch.float64


def relative_shift(displacement_oi: Tensor, total_oi: Tensor) -> float:
    """‖D‖_F / ‖Σ Δ_i‖_F; NaN where the sum is zero."""
    scale = vector_norm(total_oi)
    return vector_norm(displacement_oi) / scale if scale > 0 else float("nan")
