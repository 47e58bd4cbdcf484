"""Heatmaps, and those whose cells show their values."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from gcwm_viz.figures import theme


def heatmap(figure: go.Figure, z: np.ndarray, *, limits: tuple[float, float], **trace: Any) -> go.Figure:
    """``figure`` with ``z`` (rows, columns) as colours; NaN cells are grey with a cross. limits: ends of the scale."""
    theme.undefined_cells(figure, z)
    rows, columns = z.shape
    return figure.add_heatmap(
        z=z, x=list(range(columns)), y=list(range(rows)), zmin=limits[0], zmax=limits[1], xgap=1.5, ygap=1.5,
        hoverinfo="skip", hoverongaps=False, **trace,
    )  # fmt: skip


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
    """Heatmap of ``z`` (rows, columns), first row on top; NaN cells are grey with a cross and without a number.

    rows, columns: labels, escaped. hover: text of the cell at a row and a column. limits: ends of the colour scale.
    ink: colour of every number, row by row; by default what is legible on cividis. most: with more columns than this
    the numbers are shown on hover alone (None: always in the cells). framed: (row, column) of the cells to outline.
    """
    low, high = limits
    figure = heatmap(
        theme.figure(title, height=height, x=x, y=y), z, limits=limits, colorscale=colorscale,
        reversescale=reversescale, showscale=None if colorbar else False,
        colorbar=theme.COLORBAR if colorbar else None,
    )  # fmt: skip
    if ink is None:
        share = ((z - low) / (high - low or 1.0)).ravel()
        ink = list(theme.ink(1 - share if reversescale else share))
    i, j = np.divmod(np.arange(z.size), len(columns))
    figure.add_scatter(
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
        theme.cell_outline(figure, column, row)
    if most is not None:
        figure.update_layout(hoverdistance=-1, hovermode="closest")
    figure.update_xaxes(tickvals=list(range(len(columns))), ticktext=columns, showgrid=False)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=rows, showgrid=False, range=[len(rows) - 0.5, -0.5])
    return figure
