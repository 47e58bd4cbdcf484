"""Numbers on colour: the heatmap whose cells carry their values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from gcwm_viz.figures import theme


def number_grid(
    title: str,
    z: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    hover: Callable[[int, int], str],
    *,
    height: int,
    limits: tuple[float, float],
    colorscale: Any = theme.SEQUENTIAL,
    reversescale: bool | None = None,
    number: Callable[[float], str] = theme.num,
    ink: Sequence[str] | None = None,
    size: int = 12,
    most: int | None = 12,
    framed: Sequence[tuple[int, int]] = (),
    colorbar: bool = True,
    x: str = "",
    y: str = "",
) -> go.Figure:
    """Heatmap of ``z`` (rows, columns), first row on top; NaN cells are grey with a cross and bear no number.

    rows, columns: labels that are safe to show. hover: words for the cell of a row and a column. limits: ends of the
    colour scale. ink: colour of every number, row by row; by default what reads on cividis. most: with more columns
    than this the numbers are shown on hover alone (None: always in the cells). framed: (row, column) of the cells to
    outline.
    """
    at_x, at_y = list(range(len(columns))), list(range(len(rows)))
    low, high = limits
    made = theme.figure(title, height=height, x=x, y=y)
    theme.undefined_cells(made, z, at_x, at_y)
    made.add_heatmap(
        z=z,
        x=at_x,
        y=at_y,
        zmin=low,
        zmax=high,
        colorscale=colorscale,
        reversescale=reversescale,
        xgap=1.5,
        ygap=1.5,
        hoverinfo="skip",
        hoverongaps=False,
        showscale=None if colorbar else False,
        colorbar=theme.COLORBAR if colorbar else None,
    )
    if ink is None:
        share = ((z - low) / (high - low or 1.0)).ravel()
        ink = list(theme.ink(1 - share if reversescale else share))
    i, j = np.divmod(np.arange(z.size), len(columns))
    made.add_scatter(
        x=j,
        y=i,
        mode="text" if most is None or len(columns) <= most else "markers",
        marker=None if most is None else {"opacity": 0, "size": 14},
        showlegend=False,
        text=["" if np.isnan(value) else number(value) for value in z.ravel()],
        textfont={"size": size, "color": ink},
        hovertext=[hover(row, column) for row, column in zip(i, j, strict=True)],
        hoverinfo="text",
    )
    for row, column in framed:
        theme.cell_outline(made, column, row)
    if most is not None:
        made.update_layout(hoverdistance=-1, hovermode="closest")
    made.update_xaxes(tickvals=at_x, ticktext=columns, showgrid=False)
    made.update_yaxes(tickvals=at_y, ticktext=rows, showgrid=False, range=[len(rows) - 0.5, -0.5])
    return made
