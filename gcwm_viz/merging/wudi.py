"""The plain branch alone: weighted WUDI without geometry (arXiv 2503.08099), as a method of its own."""

from dataclasses import dataclass, replace

import torch

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, norm
from gcwm_viz.merging.quadratic import build_quadratic, total
from gcwm_viz.merging.solvers import Solution, solve
from gcwm_viz.merging.step import MergeStep, work_dtype


@dataclass(frozen=True)
class PlainMerge:
    """``merged`` (d_out, d_in), factored where all updates are and the solver permits, and the solver's way there.

    shift: ‖merged − Σ Δ_i‖_F / ‖Σ Δ_i‖_F, NaN where the sum is zero. solution: None without an update.
    """

    merged: Update
    shift: float
    solution: Solution | None


def wudi(step: MergeStep, config: GCWMConfig) -> PlainMerge:
    """M(Δ) of METHOD section 2 by the configured solver."""
    active = step.active()
    if not active:
        return PlainMerge(step.zeros(config), float("nan"), None)
    build = build_dtype(config, active[0][1].device)
    kept = [delta.to(dtype=build) for _, delta, _ in active]
    start = total(kept).to(dtype=work_dtype(config))
    solution = solve(build_quadratic(kept, [weight for _, _, weight in active]), config)
    solution = replace(solution, start_norm=norm(start))
    return PlainMerge(
        displaced(start, solution.displacement_oi), relative_shift(solution.displacement_oi, start), solution
    )


def displaced(start: Update, displacement: Update) -> Update:
    """M₀ + D. A factored D has the right factor of M₀, whatever linear map of rows it was found under."""
    if isinstance(start, LowRank) and isinstance(displacement, LowRank):
        return LowRank(start.left_or + displacement.left_or, start.right_ri)
    return dense(start) + dense(displacement)


def build_dtype(config: GCWMConfig, device: torch.device) -> torch.dtype:
    """The type in which the quadratic is built and minimised: float64, but on MPS, which has none.

    Adam follows the sign of a gradient however small it is, and the closed form divides by small eigenvalues of H:
    float32's rounding of the quadratic would move both.
    """
    return work_dtype(config) if device.type == "mps" else torch.float64


def relative_shift(displacement: Update, start: Update) -> float:
    """‖D‖_F / ‖Σ Δ_i‖_F; NaN where the sum is zero."""
    scale = norm(start)
    return norm(displacement) / scale if scale > 0 else float("nan")
