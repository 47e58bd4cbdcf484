"""Experts in maps: one column for all of them unless the reader asks for each, and clicks that still mean matrices."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from gcwm_viz.figures.layer_grid import GridAxes, collapsed
from gcwm_viz.ui import cell_choice
from tests.factories_runs import write_run

CONFLICT = "pages/1_Conflict.py"
EXPERTS = {"gate_proj": "experts.0.up_proj", "up_proj": "experts.1.up_proj", "down_proj": "experts.2.up_proj"}
AXES = collapsed(GridAxes((0, 1), ("q_proj", *EXPERTS.values())), "mean")


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose MLPs are three experts, beside one without."""
    root = tmp_path_factory.mktemp("routed")
    run = write_run(root, name="routed")
    write_run(root)
    for file in run.rglob("*.parquet"):
        table = pd.read_parquet(file)
        if "family" in table:
            table.assign(family=table["family"].replace(EXPERTS)).to_parquet(file)
    described = json.loads((run / "run.json").read_text())
    for matrix in described["matrices"]:
        matrix["family"] = EXPERTS.get(matrix["family"], matrix["family"])
    (run / "run.json").write_text(json.dumps(described))
    return root


def columns(app: AppTest) -> list[str]:
    layout = json.loads(app.get("plotly_chart")[0].proto.spec)["layout"]
    return list(layout["xaxis"]["ticktext"])


def test_the_switch_is_there_where_experts_are(open_page: Callable[..., AppTest], routed: Path) -> None:
    app = open_page(CONFLICT, root=routed, run="routed")
    assert not app.exception
    assert columns(app) == ["q", "k", "v", "o", "experts.*.up"]
    assert app.selectbox(key="family").options[4:] == list(EXPERTS.values())
    app.selectbox(key="experts").set_value("each").run()
    assert columns(app)[4:] == ["experts.0.up", "experts.1.up", "experts.2.up"]
    app.switch_page("pages/3_Gate.py").run()
    app.switch_page(CONFLICT).run()
    assert app.selectbox(key="experts").value == "each"
    app.selectbox(key="experts").set_value("2").run()
    assert columns(app)[4:] == ["experts.2.up"]
    app.selectbox(key="run").set_value("normal").run()
    assert not app.exception
    assert [box.key for box in app.selectbox if box.key == "experts"] == []
    assert len(columns(app)) == 7


def test_the_pages_with_maps_open(open_page: Callable[..., AppTest], routed: Path) -> None:
    for page in ("pages/12_Where.py", "pages/7_Two_runs.py", "pages/9_Talk.py"):
        assert not open_page(page, root=routed, run="routed").exception


def test_a_click_on_a_shared_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the chosen expert, chooses the first otherwise, and undoes all of them or none."""
    state: dict[str, Any] = {"family": "experts.1.up_proj"}
    monkeypatch.setattr(st, "session_state", state)
    state["map"] = {"selection": {"points": [{"point_index": 3, "curve_number": 0}]}}
    cell_choice.pick("map", 0, AXES)
    assert (state["layer"], state["family"]) == (1, "experts.1.up_proj")
    state["family"] = "q_proj"
    cell_choice.pick("map", 0, AXES)
    assert state["family"] == "experts.0.up_proj"
    cell_choice.select_from("map", 0, AXES)
    assert state["cells"] == ["1.experts.*.up_proj"]
    families = cell_choice.members(GridAxes((0, 1), ("q_proj", *EXPERTS.values())))
    assert cell_choice.cells_of(state["cells"][0], families) == [(1, family) for family in EXPERTS.values()]
    cell_choice.select_from("map", 0, AXES)
    assert state["cells"] == []


def test_a_selected_column_of_experts_is_all_of_them(open_page: Callable[..., AppTest], routed: Path) -> None:
    app = open_page(CONFLICT, root=routed, run="routed", cells="2.experts.*.up_proj~2.experts.9.up_proj~2.q_proj")
    assert not app.exception
    assert app.session_state["cells"] == ["2.experts.*.up_proj", "2.q_proj"]
    history = next(json.loads(chart.proto.spec) for chart in app.get("plotly_chart") if "history" in chart.proto.id)
    assert "mean of 4 selected" in [trace.get("name") for trace in history["data"]]
