"""The cells that the reader chooses to undo, by clicking in charts or in a list; kept for the session."""

from collections.abc import Sequence

import streamlit as st

from gcwm_viz.figures.layer_grid import GridAxes, short_family
from gcwm_viz.ui.text import as_markdown

Cell = tuple[int, str]
"""(layer, family)."""
KEY = "undo-cells"
"""Of the widget that lists them."""


def selected() -> list[Cell]:
    """The (layer, family) chosen to be undone."""
    return [_cell(text) for text in st.session_state.get(KEY, [])]


def select_from(key: str, trace: int, axes: GridAxes) -> None:
    """Callback of a chart: a click adds a cell or takes it out again, a box adds all of its cells. A column that
    experts share is the cells of all of them."""
    event = st.session_state[key].get("selection", {})
    points = [point["point_index"] for point in event.get("points", []) if point.get("curve_number") == trace]
    cells = [text_of(*cell) for index in points for cell in axes.matrices(int(index))]
    own = list(st.session_state.get(KEY, []))
    if len(points) == 1 and set(cells) <= set(own):
        own = [cell for cell in own if cell not in cells]
    else:
        own += [cell for cell in cells if cell not in own]
    st.session_state[KEY] = own


def replace_by(cells: Sequence[Cell]) -> None:
    """Choose these cells and no others."""
    st.session_state[KEY] = [text_of(*cell) for cell in cells]


def text_of(layer: int, family: str) -> str:
    """A cell as the value of a widget."""
    return f"{layer} {family}"


def _cell(text: str) -> Cell:
    layer, _, family = text.partition(" ")
    return int(layer), family


def label_of(text: str) -> str:
    """The same as it is shown."""
    layer, family = _cell(text)
    return f"outside: {as_markdown(family, 40)}" if layer < 0 else f"{layer} {short_family(family)}"
