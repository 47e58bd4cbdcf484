"""All signals at one step: a small layer grid for each, on a colour scale of its own."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.layer_grid import GridAxes, pivot
from gcwm_viz.figures.step_multiples import small_axes, small_map
from gcwm_viz.signals.signal import Signal

ABOUT = About(
    title="All signals",
    line="Every signal over layers and families, on a scale of its own whose ends are in its title. Blue to yellow = "
    "low to high; blue to orange = below to above zero. Grey = undefined.",
)
_COLUMNS = 4


def signal_multiples(
    cells: pd.DataFrame, signals: Sequence[Signal], axes: GridAxes, limits: Mapping[str, tuple[float, float]]
) -> go.Figure:
    """Heatmaps of ``signals`` side by side; ``cells`` are rows of ``matrices`` of one step. limits: colour range by
    column."""
    columns = min(_COLUMNS, len(signals))
    rows = -(-len(signals) // columns)
    panel = int(np.clip(300 / len(axes.layers), 7, 24) * len(axes.layers))
    ends = [" to ".join(theme.num(end, signed=s.diverging) for end in limits[s.column]) for s in signals]
    figure = theme.panels(
        ABOUT.title,
        height=80 + rows * (panel + 62),
        rows=rows,
        cols=columns,
        top=86,
        horizontal_spacing=0.03,
        vertical_spacing=0.22 / rows,
        subplot_titles=[f"{s.title}<br>{own}" for s, own in zip(signals, ends, strict=True)],
        shared_yaxes=True,
    )
    figure.update_annotations(font_size=12)
    for index, signal in enumerate(signals):
        low, high = limits[signal.column]
        small_map(
            figure, pivot(cells, signal.column, axes), axes, divmod(index, columns), signal.title, showscale=False,
            colorscale=theme.DIVERGING if signal.diverging else theme.SEQUENTIAL, zmin=low, zmax=high,
        )  # fmt: skip
    small_axes(figure, axes)
    return figure
