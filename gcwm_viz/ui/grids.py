"""Clickable layer grids on a page."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from gcwm_viz.figures.layer_grid import layer_grid
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import charts
from gcwm_viz.ui.frame import View

CELL_COLUMNS = ["step", "matrix", "layer", "family"]


def show_grid(view: View, cells: pd.DataFrame, signal: Signal, limits: tuple[float, float] | None = None) -> None:
    """One grid of ``signal`` over ``cells`` (one step); a click makes the cell the chosen matrix on every page."""
    key = f"grid-{signal.column}"
    charts.show(
        layer_grid(cells, signal, axes=view.grid, limits=limits, chosen=view.chosen),
        signal,
        cells[[*CELL_COLUMNS, signal.column, "reason"]],
        key=key,
        on_select=partial(charts.pick_cell, key, view.grid),
    )


def show_grids(
    view: View,
    cells: pd.DataFrame,
    signals: Sequence[Signal],
    limits: dict[str, tuple[float, float]] | None = None,
    columns: int = 3,
) -> None:
    """Grids of several signals in rows of ``columns``; limits by column name, by default from ``cells`` alone."""
    for start in range(0, len(signals), columns):
        row = signals[start : start + columns]
        for box, signal in zip(st.columns(columns, gap="medium"), row, strict=False):
            with box:
                show_grid(view, cells, signal, (limits or {}).get(signal.column))
