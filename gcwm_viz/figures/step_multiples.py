"""One signal over all steps: a small layer grid for each, on one colour scale."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import GridAxes, pivot, short_family
from gcwm_viz.signals.signal import Signal

ABOUT = About(
    title="Over the steps",
    line="The same map after every step, on one colour scale: where a colour changes from left to right, that step "
    "changed it. Grey = undefined.",
)
_COLUMNS = 7


def step_multiples(
    matrices: pd.DataFrame, signal: Signal, axes: GridAxes, limits: tuple[float, float] | None = None
) -> go.Figure:
    """Heatmaps of ``signal`` side by side, a panel a step; ``matrices`` are all rows of the table."""
    title = f"{signal.title} over the steps"
    if matrices[signal.column].notna().sum() == 0:
        return theme.nothing(title, f"{signal.title} is not defined at any step of this run.")
    steps = sorted(int(step) for step in matrices["step"].unique())
    names = dict(zip(matrices["step"], matrices["update"], strict=True))
    columns = min(_COLUMNS, len(steps))
    rows = -(-len(steps) // columns)
    panel = int(np.clip(300 / len(axes.layers), 7, 24) * len(axes.layers))
    figure = theme.panels(
        title,
        height=90 + rows * (panel + 46),
        rows=rows,
        cols=columns,
        top=78,
        horizontal_spacing=0.012,
        vertical_spacing=0.16 / rows,
        subplot_titles=[f"{step} · {theme.as_text(names[step], limit=14)}" for step in steps],
        shared_yaxes=True,
    )
    figure.update_annotations(font_size=12)
    low, high = limits or bounds(matrices[signal.column], diverging=signal.diverging)
    figure.update_layout(
        coloraxis={
            "colorscale": theme.DIVERGING if signal.diverging else theme.SEQUENTIAL,
            "cmin": low,
            "cmax": high,
            "colorbar": theme.COLORBAR,
        }
    )
    for index, step in enumerate(steps):
        z = pivot(matrices[matrices["step"] == step], signal.column, axes)
        small_map(figure, z, axes, divmod(index, columns), f"step {step}", coloraxis="coloraxis")
    small_axes(figure, axes)
    return figure


def small_map(
    figure: go.Figure, z: np.ndarray, axes: GridAxes, place: tuple[int, int], name: str, **trace: Any
) -> None:
    """Add ``z`` (layers, families) to the panel at ``place`` (row and column from 0), undefined cells in grey."""
    common: dict[str, Any] = {"xgap": 1, "ygap": 1, "row": place[0] + 1, "col": place[1] + 1}
    if np.isnan(z).any():
        figure.add_heatmap(
            z=np.where(np.isnan(z), 1.0, np.nan), showscale=False, hoverinfo="skip", name="undefined",
            colorscale=[(0, theme.UNDEFINED), (1, theme.UNDEFINED)], **common,
        )  # fmt: skip
    ticks = [short_family(family) for family in axes.families]
    figure.add_heatmap(
        z=z, name=name, hoverongaps=False,
        customdata=np.array([[f"layer {layer} · {tick}" for tick in ticks] for layer in axes.layers]),
        hovertemplate="%{fullData.name} · %{customdata}: %{z:.3g}<extra></extra>", **common, **trace,
    )  # fmt: skip


def small_axes(figure: go.Figure, axes: GridAxes) -> None:
    """Names of families below and of some layers beside every panel."""
    ticks = [short_family(family) for family in axes.families]
    figure.update_xaxes(tickvals=list(range(len(ticks))), ticktext=ticks, tickfont_size=9, showgrid=False)
    layers = list(range(0, len(axes.layers), -(-len(axes.layers) // 8)))
    figure.update_yaxes(
        tickvals=layers, ticktext=[str(axes.layers[row]) for row in layers], autorange="reversed", showgrid=False
    )
    figure.update_yaxes(title_text="layer", col=1)
