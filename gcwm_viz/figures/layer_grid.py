"""One signal over layers (rows) and module families (columns), each cell clickable."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.number_grid import heatmap
from gcwm_viz.signals.signal import Signal


@dataclass(frozen=True)
class GridAxes:
    """Rows and columns of every layer grid of a run; cell ``i`` is row ``i // len(families)``."""

    layers: tuple[int, ...]
    families: tuple[str, ...]

    def cell(self, index: int) -> tuple[int, str]:
        """(layer, family) of the ``index``-th clickable point. Raises IndexError outside the grid."""
        if not 0 <= index < len(self.layers) * len(self.families):
            raise IndexError(f"cell {index} is outside a grid of {len(self.layers)} × {len(self.families)}")
        row, column = divmod(index, len(self.families))
        return self.layers[row], self.families[column]


def grid_axes(matrices: pd.DataFrame) -> GridAxes:
    """Layers ascending and families in the order in which the table first names them."""
    return GridAxes(
        layers=tuple(sorted(int(layer) for layer in matrices["layer"].unique())),
        families=tuple(str(family) for family in matrices["family"].unique()),
    )


def short_family(name: str) -> str:
    """Family name as an axis label: ``q_proj`` becomes ``q``."""
    return theme.as_text(name.removesuffix("_proj") or name, limit=24)


def pivot(cells: pd.DataFrame, name: str, axes: GridAxes) -> np.ndarray:
    """The column ``name`` of one step as an array (layers, families), NaN where the run has no such matrix."""
    z = np.full((len(axes.layers), len(axes.families)), np.nan)
    row_of = {layer: row for row, layer in enumerate(axes.layers)}
    column_of = {family: column for column, family in enumerate(axes.families)}
    for layer, family, value in zip(cells["layer"], cells["family"], cells[name], strict=True):
        if layer in row_of and family in column_of:
            z[row_of[layer], column_of[family]] = value
    return z


def layer_grid(
    cells: pd.DataFrame,
    signal: Signal,
    *,
    axes: GridAxes | None = None,
    limits: tuple[float, float] | None = None,
    chosen: tuple[int, str] | None = None,
    outlined: Collection[tuple[int, str]] = (),
) -> go.Figure:
    """Heatmap of ``signal`` at one step.

    cells: rows of ``matrices`` of one step (layer, family, matrix, reason and the signal's column).
    limits: colour range; by default from this step alone. chosen: (layer, family) to outline; outlined: several more,
    such as a selection. Cells outside the grid are ignored.
    Undefined cells are grey with a cross and give their reason on hover. The last trace holds one invisible marker
    per cell in the order of ``axes.cell``: a bare heatmap sends no click.
    """
    if cells.empty:
        return theme.nothing(signal.title, "No matrix was merged at this step.")
    axes = axes or grid_axes(cells)
    z = pivot(cells, signal.column, axes)
    columns, rows = list(range(len(axes.families))), list(range(len(axes.layers)))
    figure = heatmap(
        theme.figure(signal.title, height=_height(len(rows))), z,
        limits=limits or bounds(cells[signal.column], diverging=signal.diverging),
        colorscale=theme.DIVERGING if signal.diverging else theme.SEQUENTIAL,
        name=signal.title, colorbar=theme.COLORBAR | {"len": 1.0, "xpad": 6},
    )  # fmt: skip
    figure.add_scatter(
        x=columns * len(rows),
        y=np.repeat(rows, len(columns)),
        mode="markers",
        name="matrix",
        showlegend=False,
        text=_hover(cells, signal, axes),
        hovertemplate="%{text}<extra></extra>",
        opacity=0,
        marker={"size": 14, "color": theme.NEUTRAL},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
    )
    inside = [cell for cell in outlined if cell[0] in axes.layers and cell[1] in axes.families]
    theme.outline(figure, [_box(axes, cell) for cell in inside])
    if chosen and chosen[0] in axes.layers and chosen[1] in axes.families:
        theme.cell_outline(figure, axes.families.index(chosen[1]), axes.layers.index(chosen[0]))
    every = -(-len(rows) // 12)
    figure.update_layout(hoverdistance=-1, hovermode="closest")
    figure.update_xaxes(
        title_standoff=0,
        tickvals=columns,
        ticktext=[short_family(name) for name in axes.families],
        showgrid=False,
        range=[-0.5, len(columns) - 0.5],
        fixedrange=True,
    )
    figure.update_yaxes(
        tickvals=rows[::every],
        ticktext=[str(layer) for layer in axes.layers[::every]],
        showgrid=False,
        range=[len(rows) - 0.5, -0.5],
        fixedrange=True,
        title_text="layer",
    )
    return figure


def _box(axes: GridAxes, cell: tuple[int, str]) -> tuple[float, float, float, float]:
    row, column = axes.layers.index(cell[0]), axes.families.index(cell[1])
    return column - 0.5, row - 0.5, column + 0.5, row + 0.5


def _height(rows: int) -> int:
    return 48 + 36 + int(np.clip(520 / max(rows, 1), 15, 42) * max(rows, 1))


def _hover(cells: pd.DataFrame, signal: Signal, axes: GridAxes) -> list[str]:
    values = {
        (layer, family): (value, reason)
        for layer, family, value, reason in zip(
            cells["layer"], cells["family"], cells[signal.column], cells["reason"], strict=True
        )
    }
    texts = []
    for layer in axes.layers:
        for family in axes.families:
            cell = f"layer {layer} · {theme.as_text(family)}"
            if (layer, family) not in values:
                texts.append(f"{cell}<br>no such matrix in this run")
                continue
            value, reason = values[layer, family]
            why = "" if pd.notna(value) else f"<br>{theme.as_text(theme.reason_or_default(reason), limit=160)}"
            texts.append(f"{cell}<br>{signal.title}: {theme.num(value, signed=signal.diverging)}{why}")
    return texts
