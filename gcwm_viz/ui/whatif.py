"""Another gate on the same run: α is a function of conflict alone, so nothing is optimised again."""

import numpy as np
import pandas as pd
import streamlit as st

from gcwm_viz.figures.theme import num
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.gate import branch_mode, gate
from gcwm_viz.signals.catalogue import DISPLACEMENT, GATE_CONFLICT
from gcwm_viz.signals.signal import Signal
from gcwm_viz.studies.regate import UNGATED

CHANGE = Signal(
    column="alpha_change",
    diverging=True,
    title="Change of α",
    line="α with the settings above minus α as run. Above zero: more of the geometry branch.",
    formula=r"\alpha_{\text{now}}-\alpha_{\text{run}}",
    source="equation (6)",
)
MOVED = Signal(
    column="moved",
    title="Distance from the plain merge",
    line="How far the blend lies from the plain branch, in the merge metric. 0 = the gate changes nothing here.",
    formula=r"\lVert\Delta_{\mathrm{merge}}-\Delta_{\mathrm{plain}}\rVert_{\mathcal B}=\alpha D,\quad "
    + DISPLACEMENT.formula,
    source="Proposition 1",
)
SIGNALS = (GATE_CONFLICT, CHANGE, MOVED)
_RANGES = {"tau": (0.0, 1.0), "kappa": (0.0, 50.0), "alpha_min": (0.0, 1.0), "alpha_max": (0.0, 1.0)}
_LABELS = {"tau": "Threshold τ", "kappa": "Steepness κ", "alpha_min": "Lowest α", "alpha_max": "Highest α"}


def gate_settings(config: GCWMConfig) -> GCWMConfig:
    """Sliders for the gate, starting from ``config``. The lowest α never exceeds the highest."""
    with st.container(border=True):
        st.markdown("**What if the gate were different?** Move a slider; nothing but α is computed again.")
        boxes = st.columns([2, 2, 2, 2, 1.4], vertical_alignment="bottom")
        values: dict[str, float] = {}
        for box, name in zip(boxes, _RANGES, strict=False):
            low, high = _RANGES[name]
            default = float(getattr(config, name))
            values[name] = box.slider(
                _LABELS[name],
                min(low, default),
                max(high, default),
                default,
                step=0.5 if name == "kappa" else 0.01,
                key=f"gate-{name}-{default}",
            )
        gated = boxes[-1].toggle("Gate on", value=config.gate == "conflict", key=f"gate-on-{config.gate}")
        if values["alpha_min"] > values["alpha_max"]:
            st.caption("The lowest α is above the highest; the highest is used for both.")
            values["alpha_min"] = values["alpha_max"]
    return GCWMConfig.from_dict(config.to_dict() | values | {"gate": "conflict" if gated else "none"})


def regated(cells: pd.DataFrame, config: GCWMConfig) -> pd.DataFrame:
    """``cells`` (rows of ``matrices``) with α and mode of ``config``'s gate, ``alpha_change`` and ``moved`` = αD."""
    gated = ~cells["mode"].isin(UNGATED).to_numpy()
    alpha = np.where(gated, gate(cells["conflict"].to_numpy(dtype=float), config), np.nan)
    modes = [
        mode if mode in UNGATED else branch_mode(value, config.skip_tol)
        for mode, value in zip(cells["mode"], alpha, strict=True)
    ]
    # A skipped branch has no share: α counts as 0 or 1 there.
    share = np.array([{"plain": 0.0, "geo": 1.0}.get(mode, value) for mode, value in zip(modes, alpha, strict=True)])
    return cells.assign(
        alpha=alpha,
        mode=modes,
        alpha_change=alpha - cells["alpha"].to_numpy(dtype=float),
        moved=share * cells["displacement"].to_numpy(dtype=float),
    )


def summary(cells: pd.DataFrame, decided: pd.DataFrame) -> None:
    """Headline figures of the decision, with the change against the run."""
    before, after = cells["alpha"].mean(), decided["alpha"].mean()
    change = after - before
    columns = st.columns(4)
    columns[0].metric("Mean α", num(after), None if not abs(change) > 5e-4 else num(change, signed=True))
    for column, (mode, name) in zip(
        columns[1:], {"plain": "Plain only", "blend": "Blended", "geo": "Geometry only"}.items(), strict=True
    ):
        column.metric(name, f"{(decided['mode'] == mode).sum()} of {len(decided)}")
