"""Coefficients of a calibration by matrix and source."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import short_family
from gcwm_viz.figures.number_grid import number_grid

ABOUT = About(
    title="How much of each update each matrix takes",
    line="What the calibrated model multiplies the merged state (c₀, first column) and each update by, matrix by "
    "matrix. Colour: change from the merged model, which has c₀ = 1 and 0 of every update beside it; orange = more "
    "than there, blue = less. Grey = the update does not change the matrix.",
    formula=r"M_k=c_{0,k}W_k+\sum_i c_{i,k}\Delta_{i,k}",
)
MOST_NUMBERS = 40
"""With more matrices than this the numbers are shown on hover alone."""


def coefficients(table: pd.DataFrame) -> go.Figure:
    """Heatmap, matrices in model order from top to bottom, sources from left to right.

    table: the table ``calibration`` (matrix, layer, family, kind, source, value, reason)."""
    if table.empty:
        return theme.nothing(ABOUT.title, "This run has not been calibrated.")
    matrices = table.drop_duplicates("matrix")
    sources = list(dict.fromkeys(zip(table["kind"], table["source"], strict=True)))
    places = {
        (matrix, kind, source): (value, reason)
        for matrix, kind, source, value, reason in zip(
            table["matrix"], table["kind"], table["source"], table["value"].astype(float), table["reason"], strict=True
        )
    }
    cells = [[places[name, *source] for source in sources] for name in matrices["matrix"]]
    start = np.array([float(kind == "state") for kind, _ in sources])
    values = np.array([[value for value, _ in row] for row in cells])
    labels = [f"{layer} · {short_family(str(family))}" for layer, family in
              zip(matrices["layer"], matrices["family"], strict=True)]  # fmt: skip
    heads = ["merged state" if kind == "state" else theme.as_text(name, limit=18) for kind, name in sources]

    def hover(row: int, column: int) -> str:
        value, reason = cells[row][column]
        why = f"<br>{theme.as_text(theme.reason_or_default(reason), limit=120)}" if np.isnan(value) else ""
        return f"layer {labels[row]}<br>{heads[column]}: {theme.num(value, signed=True)}{why}"

    change = values - start
    limits = bounds(pd.Series(change.ravel()), diverging=True)
    few = len(labels) <= MOST_NUMBERS
    figure = number_grid(
        ABOUT.title, change, labels, heads, hover,
        height=int(90 + np.clip(len(labels) * 20, 140, 900)), limits=limits, colorscale=theme.DIVERGING,
        ink=["#ffffff" if share > 0.6 else "#111111" for share in np.abs(change.ravel()) / limits[1]], size=10,
        most=12 if few else 0, x="source", y="layer",
    )  # fmt: skip
    if few and len(sources) <= 12:
        figure.data[-1].text = ["" if np.isnan(value) else theme.num(value) for value in values.ravel()]
    every = -(-len(labels) // 40)
    figure.update_yaxes(tickvals=list(range(len(labels)))[::every], ticktext=labels[::every])
    return figure
