"""From layer conflict to the share of the geometry branch (equation 6)."""

from typing import Any

import numpy as np
from scipy.special import expit

from gcwm_viz.geometry.config import GCWMConfig


def gate(conflict: Any, config: GCWMConfig) -> Any:
    """α = α_min + (α_max − α_min) σ(κ(g − τ)) for g in [0, 1], scalar or array; NaN stays NaN.

    Higher conflict gives more of the geometry branch. With ``config.gate == "none"`` α is 1 wherever g is defined.
    """
    g = np.asarray(conflict, dtype=np.float64)
    if config.gate == "none":
        alpha = np.where(np.isnan(g), np.nan, 1.0)
    else:
        span = config.alpha_max - config.alpha_min
        alpha = config.alpha_min + span * expit(config.kappa * (g - config.tau))
    return alpha if alpha.ndim else float(alpha)


def branch_mode(alpha: float, skip_tol: float) -> str:
    """``plain``, ``geo`` or ``blend``: which branches enter the merge at this α."""
    if alpha <= skip_tol:
        return "plain"
    return "geo" if alpha >= 1 - skip_tol else "blend"
