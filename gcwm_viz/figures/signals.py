"""The per-matrix signals that the grids draw: name, words, formula, colour scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from gcwm_viz.figures.about import About

_GAMMA = r"\gamma_{ij}=\frac{d_{\mathrm{BW}}^2(B_i,B_j)}{\operatorname{tr}B_i+\operatorname{tr}B_j+\varepsilon}"


@dataclass(frozen=True, kw_only=True)
class Signal(About):
    """A column of the ``matrices`` table and how to draw it.

    scale: ``share`` for values in [0, 1], ``size`` for magnitudes from 0 up, ``gap`` for differences around zero.
    """

    column: str
    scale: Literal["share", "size", "gap"] = "share"


ACTIVE = Signal(
    column="active_conflict",
    title="Active conflict",
    line="How far the geometries of the updates being merged differ, on average over pairs. 0 = same, 1 = unrelated.",
    formula=r"A_t=\operatorname{mean}_{i<j}\gamma_{ij},\quad " + _GAMMA,
    source="Sec. 3 and equation (4); each pair in its own basis",
)
STATE = Signal(
    column="state_conflict",
    title="State conflict",
    line="How far the state after this step differs in geometry from each update in it. Higher = more conflict.",
    formula=r"M_t=\operatorname{mean}_{i}\gamma(S_t,\Delta_i),\quad S_t=\theta_t-\theta_{\mathrm{pre}}",
    source="Sec. 3",
)
STATE_GAP = Signal(
    column="state_gap",
    scale="gap",
    title="State gap",
    line="State conflict minus active conflict. Above zero: the state conflicts with the updates more than they do "
    "with one another.",
    formula=r"M_t-A_t",
    source="Sec. 3",
)
GLOBAL = Signal(
    column="global_active",
    title="Global conflict",
    line="Active conflict measured in one basis spanned by all active updates. Higher = more conflict.",
    formula=r"G_t=\operatorname{mean}_{i<j}\gamma_{ij}\ \text{in}\ Q=\operatorname{orth}[V_1\dots V_m]",
    source="Sec. 3 and appendix E",
)
GLOBAL_WITH_STATE = Signal(
    column="global_with_state",
    title="Global conflict with state",
    line="Global conflict with the model's state counted as one more update. Higher = more conflict.",
    formula=r"G_t^{+}=\operatorname{mean}_{i<j}\gamma_{ij}\ \text{over}\ \{\Delta_i\}\cup\{S_t\}",
    source="Sec. 3 and appendix E",
)
GLOBAL_GAP = Signal(
    column="global_gap",
    scale="gap",
    title="Global gap",
    line="What the state adds to the global conflict. Above zero: the state makes the set less compatible.",
    formula=r"G_t^{+}-G_t",
    source="Sec. 3 and appendix E",
)
INCOMING = Signal(
    column="incoming_conflict",
    title="Incoming conflict",
    line="Geometry conflict between the state before the step and the arriving update, known before merging. "
    "Higher = more conflict.",
    formula=r"\gamma(S_{t-1},\Delta_t)",
    source="Sec. 3",
)
SAR = Signal(
    column="sar",
    title="Subspace overlap (SAR)",
    line="Share of one update's norm that lies in another's leading subspace, on average. Higher = more overlap.",
    formula=r"\mathrm{SAR}_{i\to j}=\frac{\lVert\Delta_iV_j\rVert_F}{\lVert\Delta_i\rVert_F+\varepsilon}",
    source="Sec. 3 and appendix E",
)
NORM = Signal(
    column="update_norm",
    scale="size",
    title="Update norm",
    line="Frobenius norm of the arriving update, in units of the weights. Higher = a larger change.",
    formula=r"\lVert\Delta_t\rVert_F",
    source="Sec. 3",
)
GATE_CONFLICT = Signal(
    column="conflict",
    title="Layer conflict g",
    line="The weighted conflict that the gate reads, in the union basis of the active updates. Higher = more conflict.",
    formula=r"g=\sum_{i<j}w_{ij}\gamma_{ij},\quad w_{ij}\propto\omega_i\omega_j",
    source="equation (5)",
)
ALPHA = Signal(
    column="alpha",
    title="Gate α",
    line="Share of the geometry branch in the merge. 0 = plain branch only, 1 = geometry branch only.",
    formula=r"\alpha=\alpha_{\min}+(\alpha_{\max}-\alpha_{\min})\,\sigma(\kappa(g-\tau))",
    source="equation (6)",
)
DISPLACEMENT = Signal(
    column="displacement",
    scale="size",
    title="Distance of the branches",
    line="How far the geometry branch lies from the plain one, in the merge metric. Higher = the gate matters more.",
    formula=r"D=\lVert\Delta_{\mathrm{geo}}-\Delta_{\mathrm{plain}}\rVert_{\mathcal B}",
    source="Proposition 1",
)
PLAIN_SHIFT = Signal(
    column="plain_shift",
    scale="size",
    title="Plain branch: distance from the starting point",
    line="Relative distance of the plain branch from the plain sum of updates. Near 0 = the solver hardly moved.",
    formula=r"\lVert M-M_0\rVert_F/\lVert M_0\rVert_F,\quad M_0=\textstyle\sum_i\Delta_i",
    source="appendix B",
)
GEO_SHIFT = Signal(
    column="geo_shift",
    scale="size",
    title="Geometry branch: distance from the starting point",
    line="The same for the geometry branch, brought back from whitened coordinates. Near 0 = the solver hardly moved.",
    formula=PLAIN_SHIFT.formula,
    source="appendix B",
)
LAMBDA_SHARE = Signal(
    column="lambda_share",
    title="Share of λ",
    line="Share of the projected covariances' trace that the shrinkage λ supplies. Over 0.05, λ shapes the signal.",
    formula=r"\lambda\,\dim Q/\operatorname{tr}B_i",
    source="equation (3)",
)

CONFLICT_PAGE = (ACTIVE, STATE, STATE_GAP, GLOBAL, GLOBAL_WITH_STATE, GLOBAL_GAP, INCOMING, SAR, NORM)
ALL = (*CONFLICT_PAGE, GATE_CONFLICT, ALPHA, DISPLACEMENT, PLAIN_SHIFT, GEO_SHIFT, LAMBDA_SHARE)
BY_COLUMN = {signal.column: signal for signal in ALL}


def bounds(values: pd.Series, scale: str, *, fit: bool = False) -> tuple[float, float]:
    """Colour range for ``values`` (NaN allowed), never empty: from 0 up, or symmetric about zero for a gap.

    fit: from the smallest value instead of 0 (not for a gap), which shows small differences. Taken over all steps of
    a run, the range keeps colours comparable while the step changes.
    """
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    numbers = numbers[np.isfinite(numbers)]
    top = float(np.abs(numbers).max()) if scale == "gap" and numbers.size else float(numbers.max(initial=0.0))
    if top <= 1e-9:  # nothing but zeros and rounding: an empty range would colour noise
        top = 1.0
    if scale == "gap":
        return -top, top
    low = float(numbers.min()) if fit and numbers.size else 0.0
    return (low, top) if top - low > 1e-9 else (0.0, top)
