"""Clickable layer grids on a page."""

from collections.abc import Sequence
from functools import partial

import pandas as pd
import streamlit as st

from gcwm_viz.figures.layer_grid import layer_grid
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import cell_choice, charts
from gcwm_viz.ui.frame import View

CELL_COLUMNS = ["step", "matrix", "layer", "family"]


def show_grid(
    view: View,
    cells: pd.DataFrame,
    signal: Signal,
    limits: tuple[float, float] | None = None,
    height: int | None = None,
) -> None:
    """One grid of ``signal`` over ``cells`` (one step); a click makes the cell the chosen matrix on every page, a box
    selects its cells."""
    key = f"grid-{signal.column}"
    figure = layer_grid(
        cells, signal, axes=view.grid, limits=limits, chosen=view.chosen, outlined=view.cells, height=height
    )
    charts.show(
        figure,
        signal,
        cells[[*CELL_COLUMNS, signal.column, "reason"]],
        key=key,
        on_select=partial(cell_choice.pick, key, len(figure.data) - 1, view.grid),
        box=True,
    )


def show_grids(view: View, cells: pd.DataFrame, signals: Sequence[Signal]) -> None:
    """Grids of several signals, three in a row."""
    for start in range(0, len(signals), 3):
        row = signals[start : start + 3]
        for box, signal in zip(st.columns(3, gap="medium"), row, strict=False):
            with box:
                show_grid(view, cells, signal)
