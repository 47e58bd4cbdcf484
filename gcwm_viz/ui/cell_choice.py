"""Cells that the reader chooses by clicking in charts: one matrix, and several selected cells, the same on every page.

The selected cells are outlined in every map, carried by links, and what the page Where undoes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

import streamlit as st

from gcwm_viz.figures.layer_grid import COLLAPSED, GridAxes, collapsed, short_family
from gcwm_viz.ui import selection
from gcwm_viz.ui.text import as_markdown

Cell = tuple[int, str]
"""(layer, family)."""
KEY = "cells"
"""Query parameter, and key of the widget that lists them: texts of :func:`text_of`."""
MOST = 500
"""Selected at once, so that a link can carry them."""
_LISTED = 6
_CELL = re.compile(r"(-?\d+)\.(.+)")


def choose(axes: GridAxes) -> tuple[Cell, ...]:
    """The selected cells, those of the run alone and of tensors outside its matrices, which have layer −1."""
    families = members(axes)

    def known(text: str) -> bool:
        found = _CELL.fullmatch(text)
        return found is not None and (int(found[1]) == -1 or (int(found[1]) in axes.layers and found[2] in families))

    texts = selection.choose_several(KEY, known)
    return tuple(dict.fromkeys(cell for text in texts for cell in cells_of(text, families)))


def members(axes: GridAxes) -> dict[str, tuple[str, ...]]:
    """Families by the name of a column: those of all experts where they share it."""
    return {**collapsed(axes, COLLAPSED[0]).members, **{family: (family,) for family in axes.families}}


def cells_of(text: str, families: Mapping[str, tuple[str, ...]]) -> list[Cell]:
    """What a text of :func:`text_of` stands for; families: see :func:`members`."""
    layer, name = _cell(text)
    return [(layer, family) for family in families.get(name, (name,))]


def summary() -> None:
    """How many cells are selected, the first of them, and a button to select none."""
    texts = st.session_state[KEY]
    if texts:
        names = ", ".join(map(label_of, texts[:_LISTED])) + (", …" if len(texts) > _LISTED else "")
        st.caption(f"{len(texts)} selected {'cells' if len(texts) > 1 else 'cell'}: {names}")
        st.button("Select none", on_click=replace_by, args=([],), key="select-none")


def pick(key: str, trace: int, axes: GridAxes) -> None:
    """Callback of a map with ``key`` whose cells are ``trace``: a click makes the cell the chosen matrix on every page,
    a box selects its cells. An event that clears the selection changes nothing."""
    places = _places(key, trace)
    if st.session_state[key].get("selection", {}).get("box"):
        _toggle(places, axes)
    elif places:
        choose_matrix(axes.matrices(places[0]))


def select_from(key: str, trace: int, axes: GridAxes) -> None:
    """Callback of a chart where a click selects a cell too."""
    _toggle(_places(key, trace), axes)


def choose_matrix(matrices: Sequence[Cell]) -> None:
    """Make the first of several experts' matrices the chosen one, unless another of them is."""
    st.session_state["layer"] = matrices[0][0]
    if st.session_state.get("family") not in {family for _, family in matrices}:
        st.session_state["family"] = matrices[0][1]


def replace_by(cells: Iterable[Cell]) -> None:
    """Select these cells and no others."""
    _keep([text_of(*cell) for cell in cells])


def replace_among(offered: Sequence[Cell], cells: Iterable[Cell]) -> None:
    """Of the cells ``offered`` select these; others stay as they are."""
    texts = {text_of(*cell) for cell in offered}
    _keep([text for text in st.session_state.get(KEY, []) if text not in texts] + [text_of(*cell) for cell in cells])


def _places(key: str, trace: int) -> list[int]:
    """Places of the cells in the event of a chart; marks of other traces can lie in a box too."""
    points = st.session_state[key].get("selection", {}).get("points", [])
    return [int(point["point_index"]) for point in points if point.get("curve_number") == trace]


def _toggle(places: Sequence[int], axes: GridAxes) -> None:
    """Select the cells at ``places``, or take them out where all of them are selected."""
    texts, own = [text_of(*axes.cell(place)) for place in places], list(st.session_state.get(KEY, []))
    left = [text for text in own if text not in texts]
    _keep(left if set(texts) <= set(own) else own + [text for text in texts if text not in own])


def _keep(texts: list[str]) -> None:
    if len(texts) > MOST:
        st.toast(f"{len(texts)} cells are too many for a link: the first {MOST} are selected.")
    st.session_state[KEY] = texts[:MOST]


def text_of(layer: int, family: str) -> str:
    """A cell as the value of a widget and in a URL; its family is that of a map's column."""
    return f"{layer}.{family}"


def _cell(text: str) -> Cell:
    layer, _, family = text.partition(".")
    return int(layer), family


def label_of(text: str) -> str:
    """The same as it is shown."""
    layer, family = _cell(text)
    return f"outside: {as_markdown(family, 40)}" if layer < 0 else f"{layer} {short_family(family)}"
