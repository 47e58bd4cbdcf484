"""One signal over layers (rows) and module families (columns), each cell clickable."""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.number_grid import heatmap
from gcwm_viz.signals.signal import Signal

_EXPERT = re.compile(r"(?P<before>.+\.)(?P<number>\d+)(?P<after>\..+)")
COLLAPSED = ("mean", "max", "each")
"""How the experts of a layer share a column: their mean, the one of largest magnitude, or not at all."""
MARGIN = 48 + 36
"""Pixels above and below the rows, together."""
_LABEL = 20
"""Pixels that a row's label takes."""


@dataclass(frozen=True)
class GridAxes:
    """Rows and columns of every layer grid of a run; cell ``i`` is row ``i // len(families)``.

    ``members``: the families that one column stands for, where these are several experts; their mean is drawn or, with
    ``largest``, the value of largest magnitude.
    """

    layers: tuple[int, ...]
    families: tuple[str, ...]
    members: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    largest: bool = False

    def cell(self, index: int) -> tuple[int, str]:
        """(layer, family) of the ``index``-th clickable point. Raises IndexError outside the grid."""
        if not 0 <= index < len(self.layers) * len(self.families):
            raise IndexError(f"cell {index} is outside a grid of {len(self.layers)} × {len(self.families)}")
        row, column = divmod(index, len(self.families))
        return self.layers[row], self.families[column]

    def matrices(self, index: int) -> list[tuple[int, str]]:
        """(layer, family) of all that the ``index``-th point stands for. Raises IndexError outside the grid."""
        layer, column = self.cell(index)
        return [(layer, family) for family in self.members.get(column, (column,))]

    @property
    def columns(self) -> dict[str, str]:
        """Column by family."""
        return {family: column for column in self.families for family in self.members.get(column, (column,))}


def grid_axes(matrices: pd.DataFrame) -> GridAxes:
    """Layers ascending and families in the order in which the table first names them."""
    return GridAxes(
        layers=tuple(sorted(int(layer) for layer in matrices["layer"].unique())),
        families=tuple(str(family) for family in matrices["family"].unique()),
    )


def expert_numbers(axes: GridAxes) -> list[int]:
    """Numbers of the experts that have families of their own."""
    return sorted({int(match["number"]) for family in axes.families if (match := _EXPERT.fullmatch(family))})


def collapsed(axes: GridAxes, experts: str) -> GridAxes:
    """``axes`` with one column for the same module of all experts, or with one expert's columns; the families of other
    modules stay. ``experts``: one of :data:`COLLAPSED`, or the number of an expert."""
    if experts == "each":
        return axes
    members: dict[str, list[str]] = {}
    for family in axes.families:
        match = _EXPERT.fullmatch(family)
        if match is None or match["number"] == experts:
            members[family] = [family]
        elif experts in COLLAPSED:
            members.setdefault(f"{match['before']}*{match['after']}", []).append(family)
    shared = {column: tuple(families) for column, families in members.items()}
    return replace(axes, families=tuple(shared), members=shared, largest=experts == "max")


def short_family(name: str) -> str:
    """Family name as an axis label: ``q_proj`` becomes ``q``."""
    return theme.as_text(name.removesuffix("_proj") or name, limit=24)


def pivot(cells: pd.DataFrame, name: str, axes: GridAxes) -> np.ndarray:
    """The column ``name`` of one step as an array (layers, families), NaN where the run has no such matrix."""
    z = np.full((len(axes.layers), len(axes.families)), np.nan)
    row_of = {layer: row for row, layer in enumerate(axes.layers)}
    place = {column: number for number, column in enumerate(axes.families)}
    for (layer, column), values in _grouped(cells, axes, [name]).items():
        if layer in row_of:
            z[row_of[layer], place[column]] = _shared([value for _, value in values], axes)
    return z


def _grouped(cells: pd.DataFrame, axes: GridAxes, names: list[str]) -> dict[tuple[int, str], list[tuple[Any, ...]]]:
    """(family, values of the columns ``names``) of all that a cell stands for, by layer and column."""
    grouped: dict[tuple[int, str], list[tuple[Any, ...]]] = {}
    columns = axes.columns
    for layer, family, *values in zip(cells["layer"], cells["family"], *(cells[name] for name in names), strict=True):
        if family in columns:
            grouped.setdefault((layer, columns[family]), []).append((family, *values))
    return grouped


def _shared(values: Collection[float], axes: GridAxes) -> float:
    """The value drawn for several matrices, undefined ones left out; NaN where all are."""
    array = np.asarray(values, dtype=float)
    array = array[~np.isnan(array)]
    if not len(array):
        return float("nan")
    return float(array[np.abs(array).argmax()] if axes.largest else array.mean())


def layer_grid(
    cells: pd.DataFrame,
    signal: Signal,
    *,
    axes: GridAxes | None = None,
    limits: tuple[float, float] | None = None,
    chosen: tuple[int, str] | None = None,
    outlined: Collection[tuple[int, str]] = (),
    height: int | None = None,
) -> go.Figure:
    """Heatmap of ``signal`` at one step.

    cells: rows of ``matrices`` of one step (layer, family, matrix, reason and the signal's column).
    limits: colour range; by default from this step alone. chosen: (layer, family) to outline; outlined: several more,
    such as a selection, dotted. Cells outside the grid are ignored. height: in pixels, by default from the layers.
    Undefined cells are grey with a cross and give their reason on hover. The last trace holds one invisible marker
    per cell in the order of ``axes.cell``: a bare heatmap sends no click.
    """
    if cells.empty:
        return theme.nothing(signal.title, "No matrix was merged at this step.")
    axes = axes or grid_axes(cells)
    z = pivot(cells, signal.column, axes)
    columns, rows = list(range(len(axes.families))), list(range(len(axes.layers)))
    height = height or MARGIN + int(np.clip(520 / len(rows), 15, 42) * len(rows))
    figure = heatmap(
        theme.figure(signal.title, height=height), z,
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
    column_of = axes.columns
    inside = [(layer, column_of[f]) for layer, f in outlined if layer in axes.layers and f in column_of]
    theme.outline(figure, [_box(axes, cell) for cell in dict.fromkeys(inside)])
    if chosen and chosen[0] in axes.layers and chosen[1] in column_of:
        theme.cell_outline(figure, axes.families.index(column_of[chosen[1]]), axes.layers.index(chosen[0]))
    every = math.ceil(_LABEL * len(rows) / (height - MARGIN))
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


def _hover(cells: pd.DataFrame, signal: Signal, axes: GridAxes) -> list[str]:
    grouped = _grouped(cells, axes, [signal.column, "reason"])
    texts = []
    for layer in axes.layers:
        for column in axes.families:
            cell = f"layer {layer} · {theme.as_text(column)}"
            found = grouped.get((layer, column), [])
            if not found:
                texts.append(f"{cell}<br>no such matrix in this run")
                continue
            value = _shared([own for _, own, _ in found], axes)
            of = ""
            if len(found) > 1:
                largest = next((family for family, own, _ in found if own == value), "")
                of = f"<br>{theme.as_text(largest)}" if axes.largest and largest else f"<br>mean of {len(found)}"
            reason = next((reason for _, own, reason in found if pd.isna(own)), "")
            why = "" if pd.notna(value) else f"<br>{theme.as_text(theme.reason_or_default(reason), limit=160)}"
            texts.append(f"{cell}<br>{signal.title}: {theme.num(value, signed=signal.diverging)}{of}{why}")
    return texts
