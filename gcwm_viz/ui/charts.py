"""One chart on a page: the figure, its line in plain words, and an expander with formula, source and data."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from gcwm_viz.figures.about import Explained
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

    note: one more sentence under the line. box: cells can be selected by drawing a box too, after a click on the dotted
    square above the chart: while dragging draws a box, Streamlit passes no clicks on.
    """
    config = {
        "displaylogo": False,
        "displayModeBar": True if box else "hover",
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
