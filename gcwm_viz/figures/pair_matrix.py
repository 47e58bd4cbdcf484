"""Conflict or overlap between every two updates, for one matrix or averaged over several."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.number_grid import number_grid
from gcwm_viz.signals.catalogue import ACTIVE, SAR

ABOUT = About(
    title="Conflict between updates",
    line="Geometry conflict of every two updates, and of each with the model's state. 0 = same, 1 = unrelated.",
    formula=ACTIVE.formula,
    source=ACTIVE.source,
)
OVERLAP = About(
    title="Overlap between updates",
    line="Share of the row's update that lies in the column's leading subspace. Read from row to column; "
    "higher = more overlap.",
    formula=SAR.formula,
    source=SAR.source,
)
STATE = "state"


def pair_values(pairs: pd.DataFrame, names: Sequence[str], value: str = "conflict") -> pd.DataFrame:
    """Square table over ``names`` (and the state, when ``pairs`` has it): means over the matrices in ``pairs``.

    value: ``conflict`` (pair basis, symmetric), ``gate_conflict`` (union basis, symmetric) or ``sar`` (row → column).
    The diagonal and pairs without a defined value are NaN. Incoming pairs (against the state *before* the step) are
    left out.
    """
    rows = pairs[pairs["kind"].isin(["active", "state"])]
    labels = [name for name in names if name in set(rows["i"]) | set(rows["j"])]
    if (rows["kind"] == "state").any():
        labels.append(STATE)
    forward, backward = ("sar_ij", "sar_ji") if value == "sar" else (value, value)
    long = pd.concat(
        [
            rows[["i", "j", forward]].set_axis(["row", "column", "value"], axis=1),
            rows[["j", "i", backward]].set_axis(["row", "column", "value"], axis=1),
        ]
    )
    square = long.groupby(["row", "column"])["value"].mean().unstack("column") if len(long) else pd.DataFrame()
    return square.reindex(index=labels, columns=labels).astype(float)


def pair_matrix(square: pd.DataFrame, about: About = ABOUT, top: float = 1.0) -> go.Figure:
    """Heatmap of ``pair_values`` with a number in every cell but the diagonal. top: end of the scale."""
    if len(square) < 2:
        return theme.nothing(about.title, "A pair needs two updates; this step has fewer, and no state beside them.")
    z = square.to_numpy(dtype=float)
    labels = [theme.as_text(name, limit=18) for name in square.index]

    def hover(r: int, c: int) -> str:
        return f"{labels[r]} → {labels[c]}: {theme.num(z[r, c]) if r != c else 'the same update'}"

    figure = number_grid(
        about.title, z, labels, labels, hover, height=int(130 + np.clip(36 * len(labels), 90, 520)),
        limits=(0, top), size=11, most=9,
    )  # fmt: skip
    figure.update_xaxes(range=[-0.5, len(labels) - 0.5])
    return figure
