"""One large map of a signal and the table of its cells.

A click in either chooses a matrix; a box in the map or ticks in the table select cells. What is chosen or selected in
one is outlined or ticked in the other, and on every page.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from gcwm_viz.figures.layer_grid import MARGIN
from gcwm_viz.figures.theme import num, reason_or_default
from gcwm_viz.runs.highlights import ranked
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import cell_choice, grids, selection
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.text import as_markdown, plain_cell

_TOP, _FEWEST = 5, 12
"""Cells that the sentence calls the highest, and how many defined ones it takes to say where they are."""
_MOST_ROWS = 1000
_TALLEST, _ROW = 432, (9, 80)
"""Pixels of all rows of the map where they fit, and of one: the least and the most."""


def choose_signal(name: str, signals: Sequence[Signal], first: Signal) -> Signal:
    """The signal to draw, from a selector whose key and query parameter are ``name``; ``first`` without a choice."""
    titles = {signal.column: signal.title for signal in signals}
    selection.choose(name, list(titles), first.column)
    column = st.selectbox(
        "Signal", list(titles), key=name, format_func=titles.__getitem__, label_visibility="collapsed"
    )
    selection.show([name] if column == first.column else [], **{name: column})
    return next(signal for signal in signals if signal.column == column)


def show(view: View, signal: Signal, others: Sequence[Signal], limits: tuple[float, float]) -> None:
    """What to look for, the map, and the cells by rank. others: signals that the table shows beside ``signal``."""
    matrices = view.run.tables["matrices"]
    table = ranked(view.at_step("matrices"), matrices[matrices["step"] == view.step - 1], signal.column)
    st.markdown(what_to_look_for(table, signal))
    height = _height(len(view.grid.layers))
    left, right = st.columns([5, 4], gap="medium")
    with left:
        cells = table.sort_index()
        grids.show_grid(view, cells, signal, limits, height)
    with right:
        _table(view, table, signal, others, height)


def _height(layers: int) -> int:
    return MARGIN + int(np.clip(_TALLEST / layers, *_ROW) * layers)


def what_to_look_for(table: pd.DataFrame, signal: Signal) -> str:
    """Where ``signal`` is highest, what the highest cells share, and what is usual, in Markdown. table: of one step, by
    :func:`gcwm_viz.runs.highlights.ranked`."""
    values = table[signal.column].astype(float)
    defined = table[values.notna()]
    if defined.empty:
        reason = reason_or_default(next(iter(table["reason"]), ""))
        return f"**{signal.title}** is undefined in every matrix at this step: {as_markdown(reason)}."
    top = defined.head(_TOP)
    first = top.iloc[0]
    if np.ptp(defined[signal.column]) <= 1e-9:
        text = f"**The same in every matrix**: {num(first[signal.column])}"
    else:
        place = f"layer {first['layer']}, {as_markdown(first['family'], 30)}"
        text = f"**Highest in {place}** ({num(first[signal.column])}){_shared(top) if len(defined) >= _FEWEST else ''}"
        earlier = (values - table["change"]).median()
        since = f" (after step {table['step'].iloc[0] - 1}: {num(earlier)})" if pd.notna(earlier) else ""
        text += f"; median {num(values.median())}{since}"
    if len(defined) < len(table):
        reason = reason_or_default(next(iter(table.loc[values.isna(), "reason"]), ""))
        text += f". Undefined in {len(table) - len(defined)} of {len(table)} matrices: {as_markdown(reason)}"
    return f"{text}."


def _shared(top: pd.DataFrame) -> str:
    """What most of the highest cells have in common; empty where it is nothing."""
    for column, prefix in (("family", ""), ("layer", "in layer ")):
        counts = top[column].value_counts()
        many, where = counts.iloc[0], f"{prefix}{as_markdown(counts.index[0], 30)}"
        if many == len(top):
            return f"; the {many} highest are all {where}"
        if many > len(top) / 2:
            return f"; {many} of the {len(top)} highest are {where}"
    return ""


def _table(view: View, table: pd.DataFrame, signal: Signal, others: Sequence[Signal], height: int) -> None:
    shown = table.head(_MOST_ROWS)
    cells = [(int(layer), str(family)) for layer, family in zip(shown["layer"], shown["family"], strict=True)]
    key = f"cells-{signal.column}"
    ticked = [row for row, cell in enumerate(cells) if cell in set(view.cells)]
    state = st.session_state.get(key)
    if state is None or sorted(state["selection"]["rows"]) != ticked:  # they may have been selected elsewhere
        st.session_state[key] = {"selection": {"rows": ticked, "columns": [], "cells": []}}
    signals = [signal, *(other for other in others if other is not signal and shown[other.column].notna().any())]
    columns = {s.column: st.column_config.NumberColumn(s.title, format="%.3g", width=105, help=s.line) for s in signals}
    number = st.column_config.NumberColumn
    st.dataframe(
        shown[["rank", "layer", "family", signal.column, "change", *list(columns)[1:]]].map(plain_cell),
        key=key,
        on_select=partial(_pick, key, cells, ticked),
        selection_mode=["multi-row", "single-cell"],
        hide_index=True,
        height=height,
        placeholder="n/a",
        alt=f"Matrices by {signal.title}, highest first, with their other signals",
        column_config=columns
        | {
            "rank": number("No.", width=38, help="Rank by the signal of the map, 1 = highest"),
            "layer": number("Layer", width=45),
            "family": st.column_config.TextColumn("Family", width=85),
            "change": number("Change", format="%+.2g", width=65, help="Since the step before"),
        },
    )
    own = table[(table["layer"] == view.layer) & (table["family"] == view.family)]
    rank = own["rank"].iloc[0] if len(own) else np.nan
    where = f"no. {rank:.0f} of {table['rank'].count()}" if pd.notna(rank) else "undefined here"
    st.caption(
        f"Chosen: layer {view.layer}, {as_markdown(view.family, 30)}, {where}. A click chooses a matrix; ticks, or a "
        "box (dotted square above the map), select several."
    )


def _pick(key: str, cells: Sequence[cell_choice.Cell], ticked: Sequence[int]) -> None:
    """Callback of the table: ticks select cells, a click elsewhere in a row chooses its matrix. An event holds both,
    so ``ticked``, the rows ticked before, tell which it is."""
    event = st.session_state[key]["selection"]
    if set(event["rows"]) != set(ticked):
        cell_choice.replace_among(cells, [cells[row] for row in event["rows"]])
    elif event["cells"]:
        cell_choice.choose_matrix([cells[event["cells"][0][0]]])
