"""Another gate on the same run: α is a function of conflict alone, so nothing is optimised again."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

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


def gate_settings(
    config: GCWMConfig,
    boxes: Sequence[DeltaGenerator],
    key: str = "gate",
    *,
    now: GCWMConfig | None = None,
    on_change: Callable[[], None] | None = None,
) -> GCWMConfig:
    """Sliders for the gate and its switch in five ``boxes``, starting from ``now``, by default from ``config``, the
    run's. The lowest α never exceeds the highest."""
    now = now or config
    for box, name in zip(boxes, _RANGES, strict=False):
        low, high = _RANGES[name]
        default, value = float(getattr(config, name)), float(getattr(now, name))
        box.slider(
            _LABELS[name],
            min(low, default, value),
            max(high, default, value),
            value,
            step=0.5 if name == "kappa" else 0.01,
            key=_key(key, name, config),
            on_change=on_change,
        )
    boxes[-1].toggle("Gate on", now.gate == "conflict", key=_key(key, "gate", config), on_change=on_change)
    if st.session_state[_key(key, "alpha_min", config)] > st.session_state[_key(key, "alpha_max", config)]:
        st.caption("The lowest α is above the highest; the highest is used for both.")
    return gate_shown(config, key)


def gate_shown(config: GCWMConfig, key: str) -> GCWMConfig:
    """``config`` with the gate that the sliders show."""
    values = {name: float(st.session_state[_key(key, name, config)]) for name in _RANGES}
    values["alpha_min"] = min(values["alpha_min"], values["alpha_max"])
    gated = st.session_state[_key(key, "gate", config)]
    return GCWMConfig.from_dict(config.to_dict() | values | {"gate": "conflict" if gated else "none"})


def _key(key: str, name: str, config: GCWMConfig) -> str:
    """Another default is another slider."""
    return f"{key}-{name}-{getattr(config, name)}"


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
