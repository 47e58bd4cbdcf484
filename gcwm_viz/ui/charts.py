"""One chart on a page: the figure, its line in plain words, and an expander with formula, source and data."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from gcwm_viz.figures.about import Explained
from gcwm_viz.figures.layer_grid import GridAxes
from gcwm_viz.ui import pins
from gcwm_viz.ui.picture import png_button
from gcwm_viz.ui.text import as_csv

PAPER = "arXiv 2605.09608"


def show(
    figure: go.Figure,
    about: Explained,
    data: pd.DataFrame,
    *,
    key: str,
    on_select: Callable[[], None] | None = None,
    note: str = "",
    box: bool = False,
) -> None:
    """Draw ``figure`` with what ``about`` says; ``data`` is what the CSV download holds. ``key`` is unique on a page.

    note: one more sentence under the line. box: cells can be selected by drawing a box too.
    """
    config = {
        "displaylogo": False,
        "modeBarButtonsToRemove": [*([] if box else ["select2d"]), "lasso2d", "autoScale2d"],
        "toImageButtonOptions": {"format": "svg", "filename": key},
    }
    alt = f"{about.title}. {about.line}"
    mode: tuple[Literal["points", "box"], ...] = ("points", "box") if box else ("points",)
    st.plotly_chart(figure, key=key, config=config, alt=alt, on_select=on_select or "ignore", selection_mode=mode)
    st.caption(f"{about.line} {note}".strip())
    with st.expander("Formula and data", type="compact"):
        if about.formula:
            st.latex(about.formula)
        if about.source:
            st.caption(f"Paper ({PAPER}): {about.source}.")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.download_button(
                "Download CSV",
                data=partial(as_csv, data),
                file_name=f"{key}.csv",
                mime="text/csv",
                on_click="ignore",
                key=f"{key}-csv",
            )
            png_button(figure, key)
            pins.button(figure, about, key)


def pick_cell(key: str, axes: GridAxes) -> None:
    """Callback of a layer grid with ``key``: make the clicked cell the chosen matrix on every page.

    A click that clears the selection changes nothing.
    """
    points = st.session_state[key].get("selection", {}).get("points", [])
    if points:
        matrices = axes.matrices(int(points[0]["point_index"]))
        st.session_state["layer"] = matrices[0][0]
        # Of a column that several experts share, the chosen one stays.
        if st.session_state.get("family") not in {family for _, family in matrices}:
            st.session_state["family"] = matrices[0][1]
