"""What the table beside the map says of the cells, and what its clicks and ticks choose."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st

from gcwm_viz.runs.highlights import ranked
from gcwm_viz.signals.catalogue import ACTIVE
from gcwm_viz.ui import cell_choice, signal_map
from gcwm_viz.ui.cell_choice import Cell
from gcwm_viz.ui.signal_map import what_to_look_for
from tests.factories_runs import NASTY, make_tables

MATRICES = make_tables()["matrices"]


def table(column: str = ACTIVE.column, step: int = 4, **changes: Any) -> pd.DataFrame:
    cells = MATRICES[MATRICES["step"] == step].assign(**changes)
    return ranked(cells, MATRICES[MATRICES["step"] == step - 1], column)


def test_ranks_and_changes() -> None:
    cells = MATRICES[MATRICES["step"] == 4]
    cells = cells.assign(active_conflict=[0.99, 0.99, np.nan, 0.98, *cells[ACTIVE.column].iloc[4:]])
    before = MATRICES[(MATRICES["step"] == 3) & (MATRICES["layer"] > 0)]
    rows = ranked(cells, before, ACTIVE.column)
    assert rows["rank"].tolist()[:4] == [1, 1, 3, 4]
    assert rows["family"].tolist()[:3] == ["q_proj", "k_proj", "o_proj"]
    assert rows[ACTIVE.column].isna().tolist() == [False] * 27 + [True]
    assert np.isnan(rows["rank"].iloc[-1])
    assert rows.loc[rows["layer"] == 0, "change"].isna().all()
    last = rows[(rows["layer"] == 3) & (rows["family"] == "o_proj")].iloc[0]
    earlier = before[(before["layer"] == 3) & (before["family"] == "o_proj")].iloc[0]
    assert last["change"] == pytest.approx(last[ACTIVE.column] - earlier[ACTIVE.column])


def values(*highest: Cell) -> pd.DataFrame:
    """0.5 everywhere but in the ``highest`` cells, from 0.9 down."""
    cells = MATRICES[MATRICES["step"] == 4]
    order = {cell: 0.9 - 0.01 * place for place, cell in enumerate(highest)}
    return table(active_conflict=[order.get(cell, 0.5) for cell in zip(cells["layer"], cells["family"], strict=True)])


def test_what_the_highest_cells_share() -> None:
    downs = [(layer, "down_proj") for layer in (1, 0, 2, 3)]
    said = what_to_look_for(values(*downs, (2, "q_proj")), ACTIVE)
    assert said.startswith(
        r"**Highest in layer 1, down\_proj** (0.900); 4 of the 5 highest are down\_proj; median 0.500"
    )
    one_layer = [(2, family) for family in ("q_proj", "v_proj", "o_proj", "up_proj", "k_proj")]
    assert "; the 5 highest are all in layer 2; median" in what_to_look_for(values(*one_layer), ACTIVE)
    mixed = [(0, "q_proj"), (0, "k_proj"), (1, "v_proj"), (2, "o_proj"), (3, "up_proj")]
    assert "5 highest" not in what_to_look_for(values(*mixed), ACTIVE)


def test_what_is_undefined_or_the_same_everywhere_is_said() -> None:
    rows = values((1, "down_proj")).reset_index(drop=True)
    last = rows["layer"] == 3
    rows = rows.assign(active_conflict=rows[ACTIVE.column].mask(last), reason=NASTY)
    said = what_to_look_for(rows, ACTIVE)
    assert "Undefined in 7 of 28 matrices: " in said
    assert "<b>" not in said
    same = table(active_conflict=0.25)
    assert what_to_look_for(same, ACTIVE) == "**The same in every matrix**: 0.250."
    none = table(active_conflict=np.nan, reason="no pair")
    assert what_to_look_for(none, ACTIVE) == "**Active conflict** is undefined in every matrix at this step: no pair."


def test_a_click_in_the_table_chooses_and_ticks_select(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {"layer": 0, "family": "q_proj", "cells": ["9.o_proj", "1.k_proj"]}
    monkeypatch.setattr(st, "session_state", state)
    cells = [(2, "v_proj"), (1, "k_proj"), (0, "q_proj")]

    def event(ticked: list[int], rows: list[int], clicked: list[tuple[int, str]]) -> None:
        state["table"] = {"selection": {"rows": rows, "columns": [], "cells": clicked}}
        signal_map._pick("table", cells, ticked)

    event([1], [1], [(0, "rank")])
    assert (state["layer"], state["family"]) == (2, "v_proj")
    assert state["cells"] == ["9.o_proj", "1.k_proj"]
    event([1], [1, 2], [(0, "rank")])  # the earlier click is still in the event
    assert state["cells"] == ["9.o_proj", "1.k_proj", "0.q_proj"]  # another page's table may not show layer 9
    event([1, 2], [], [])
    assert state["cells"] == ["9.o_proj"]
    assert (state["layer"], state["family"]) == (2, "v_proj")


def test_more_cells_than_a_link_carries_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    state: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(st, "toast", said.append)
    cell_choice.replace_by([(layer, "q_proj") for layer in range(600)])
    assert len(state["cells"]) == 500
    assert "600 cells" in said[0]
