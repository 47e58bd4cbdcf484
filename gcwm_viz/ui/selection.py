"""What the reader has selected, the same on every page and in every link: run, step, layer, module family, several
cells, the signal of a map and, where a model has them, how its experts are drawn.

A widget loses its value when its page is left, and Streamlit's own binding to query parameters is replaced by that of
the next page's widgets, so that the selection of a link is lost with the first click. The selection is therefore kept
in the URL and in the session, none of its widgets is bound, and every link within the app carries it.

A URL that names a run is complete: what it leaves out has its default value. So Back undoes a selection of cells.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import streamlit as st

NAMES = ("run", "step", "layer", "family", "experts", "signal", "branch", "cells")
"""Query parameters, and keys of the widgets that choose them."""
_BETWEEN = re.compile(r"~(?=-?\d+\.)")
"""Between the cells of a list, as in ``0.q_proj~1.v_proj``: a character that a URL does not escape."""
_SHOWN, _OFFERED, _PAGE, _ARRIVED = "place-shown", "place-offered", "place-page", "place-arrived"
Option = TypeVar("Option", int, str)


def arrive(page: str) -> None:
    """Call it first on every page: widgets of another page are different widgets under the same keys."""
    st.session_state[_ARRIVED] = st.session_state.get(_PAGE) != page
    if st.session_state[_ARRIVED]:
        st.session_state[_PAGE], st.session_state[_OFFERED] = page, {}


def page() -> str:
    """Name of the page that is drawn."""
    return str(st.session_state.get(_PAGE, ""))


def prefer_address(*names: str) -> None:
    """Call it before a page's own widgets that are bound to query parameters ``names``: on arrival the address decides.

    Streamlit keeps such a widget's value from an earlier visit, even against an address that names its default.
    """
    if st.session_state[_ARRIVED]:
        for name in names:
            if name in st.query_params:
                st.session_state.pop(name, None)


def requested() -> dict[str, str]:
    """What the reader requests, as text by name, unchecked: a widget just moved takes precedence over the URL, and that
    over the selection shown last."""
    shown = st.session_state.get(_SHOWN, {})
    texts = {}
    for name in NAMES:
        widget = st.session_state.get(name)
        if widget is not None and _text(widget) != shown.get(name, ""):
            texts[name] = _text(widget)
        elif name in st.query_params:
            texts[name] = st.query_params[name]
        elif name in shown and "run" not in st.query_params:
            texts[name] = shown[name]
    return texts


def _text(value: object) -> str:
    return "~".join(value) if isinstance(value, list) else str(value)


def choose(name: str, options: Sequence[Option], default: Option) -> Option:
    """The option that the reader requests, or ``default`` where there is no such option; set for the widget with the
    key ``name``, which is drawn next without a value of its own."""
    by_text = {str(option): option for option in options}
    value = by_text.get(requested().get(name, ""), default)
    _set(name, value, list(by_text))
    return value


def choose_several(name: str, known: Callable[[str], bool]) -> list[str]:
    """Those of a list that the reader requests for which ``known`` holds; set for a widget as :func:`choose` does."""
    values = [text for text in _BETWEEN.split(requested().get(name, "")) if known(text)]
    _set(name, values, [])
    return values


def _set(name: str, value: object, options: list[str]) -> None:
    offered = st.session_state[_OFFERED]
    # A slider with another range is a new widget; the same one keeps its value: the reader may be moving it.
    if st.session_state.get(name) != value or offered.get(name) != options:
        st.session_state[name] = value
    offered[name] = options


def show(implied: Collection[str] = (), /, **selection: object) -> bool:
    """Keep what the page shows in the session and, as one entry of the browser's history, in the URL; whether the URL
    changed. implied: names whose value is the one that a URL without them stands for."""
    texts = {name: _text(value) for name, value in selection.items()}
    missing = {name: text if name in implied else "" for name, text in texts.items()}
    moved = any(st.query_params.get(name, missing[name]) != text for name, text in texts.items())
    if moved:
        st.query_params.update({name: text for name, text in texts.items() if text})
        for name in [name for name, text in texts.items() if not text and name in st.query_params]:
            del st.query_params[name]
    st.session_state[_SHOWN] = st.session_state.get(_SHOWN, {}) | texts
    return moved


def link(page: str, label: str, **changes: object) -> None:
    """A link to another page of the app with the same selection but for ``changes``."""
    st.page_link(page, label=label, query_params=parameters(**changes), width="content")


def parameters(**changes: object) -> dict[str, Any]:
    """Query parameters of the selection but for ``changes``."""
    return {name: text for name, text in requested().items() if text} | as_parameters(changes)


def as_parameters(values: Mapping[str, object]) -> dict[str, Any]:
    """Query parameters: a list stands for one that occurs once for each of its values."""
    return {name: [*map(str, v)] if isinstance(v, list | tuple) else str(v) for name, v in values.items()}
