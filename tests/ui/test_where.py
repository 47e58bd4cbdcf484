"""The page Where on a real small run: its maps, undoing, the search, and everything that can be missing."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from streamlit.testing.v1 import AppTest

from gcwm_viz.attribution.attribute import attribute
from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.restore import read_cells
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.figures.layer_grid import GridAxes
from gcwm_viz.jobs.attribution import cells_json, restore_job, write_cells
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui import cell_choice
from tests import factories_lab
from tests.attribution.models import write_inputs, write_states
from tests.ui.test_pages import words

PAGE = "pages/12_Where.py"


@pytest.fixture
def open_where(open_page: Callable[..., AppTest], where_root: Path) -> Callable[..., AppTest]:
    def opened(root: Path = where_root, **query: object) -> AppTest:
        app = open_page(PAGE, root=root, **query)
        assert not app.exception
        return app

    return opened


def button(app: AppTest, label: str) -> Any:
    return next(each for each in app.button if each.label == label)


def titles(app: AppTest) -> list[str]:
    layouts = [json.loads(chart.proto.spec)["layout"] for chart in app.get("plotly_chart")]
    return [layout["title"]["text"] for layout in layouts]


@pytest.fixture
def forgotten(where_root: Path) -> str:
    return factories_lab.most_forgotten(where_root / "forgetting")


def test_what_the_page_shows_at_a_step_that_forgets(open_where: Callable[..., AppTest], forgotten: str) -> None:
    app = open_where(run="forgetting", step=4)
    shown = titles(app)
    assert shown[0] == f"{forgotten} · step 3 → 4"
    assert shown[1:] == [
        "Incoming conflict",
        "Harm and gain of every matrix",
        "Attribution by task and step",
        "Signals and harm over the matrices",
        *[title for title in shown[5:] if title.startswith("On the way between two states")],
    ]
    assert len(shown) == 6
    assert "Rank correlation of the two maps over 28 matrices: ρ = " in words(app)


def test_the_first_step_has_no_earlier_task(open_where: Callable[..., AppTest]) -> None:
    app = open_where(run="forgetting", step=1)
    assert titles(app)[0] == "past · base → step 1"
    assert "This takes one task that arrives on the path" in app.get("plotly_chart")[2].proto.spec


def test_undoing_brings_back_what_was_lost(open_where: Callable[..., AppTest]) -> None:
    app = open_where(run="forgetting", step=4)
    assert button(app, "Undo these").disabled
    button(app, "Choose the 5 worst").click().run()
    assert len(app.multiselect(key="cells").value) == 5
    button(app, "Undo these").click().run()
    assert not app.exception
    text = words(app)
    assert "Undoing 5 of 28 matrices takes back" in text
    assert "Undoing the chosen cells" in titles(app)
    button(app, "Choose none").click().run()
    assert "Undoing 5 of 28" not in words(app)  # an answer to another question is not shown


def test_cells_selected_elsewhere_are_those_to_undo(open_where: Callable[..., AppTest]) -> None:
    app = open_where(run="forgetting", step=4, cells="0.q_proj~3.down_proj~9.q_proj")
    assert app.multiselect(key="cells").value == ["0.q_proj", "3.down_proj"]
    button(app, "Undo these").click().run()
    assert "Undoing 2 of 28 matrices" in words(app)
    app.switch_page("pages/1_Conflict.py").run()
    assert app.session_state["cells"] == ["0.q_proj", "3.down_proj"]


def test_the_search_offers_its_set(open_where: Callable[..., AppTest]) -> None:
    app = open_where(run="forgetting", step=4)
    button(app, "Search").click().run()
    assert not app.exception
    assert "The search" in words(app)
    button(app, "Choose these").click().run()
    chosen = app.multiselect(key="cells").value
    assert chosen
    button(app, "Undo these").click().run()
    assert f"Undoing {len(chosen)} of 28 matrices takes back" in words(app)


def test_a_run_that_was_not_attributed_offers_it(open_where: Callable[..., AppTest], where_root: Path) -> None:
    shutil.copytree(where_root / "forgetting", where_root / "fresh")
    shutil.rmtree(where_root / "fresh" / "attribution")
    app = open_where(run="fresh")
    assert button(app, "Split the losses")
    assert not titles(app)


def test_a_run_without_probes_says_how_to_give_it_some(open_where: Callable[..., AppTest]) -> None:
    text = words(open_where(run="merged"))
    assert "has no probes, so no loss whose change could be split" in text
    assert "gcwm-viz score" in text


def test_a_model_that_cannot_be_loaded_leaves_the_pictures(
    open_where: Callable[..., AppTest], forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcwm_viz.ui.undo.obstacle", lambda run: "it needs 99.0 GiB.")
    app = open_where(run="forgetting", step=4)
    assert "The app cannot load this run's model: it needs 99.0 GiB." in words(app)
    assert titles(app)[0] == f"{forgotten} · step 3 → 4"


def test_names_from_files_are_literal_text(
    open_where: Callable[..., AppTest], where_root: Path, forgotten: str, tmp_path: Path
) -> None:
    """A table from elsewhere can name its tasks and families anything."""
    shutil.copytree(where_root / "forgetting", tmp_path / "run")
    file = tmp_path / "run" / "attribution" / "tables" / "attribution.parquet"
    table = open_run(tmp_path / "run").tables["attribution"].copy()
    table["task"] = table["task"].replace(forgotten, "<script>alert(1)</script>")
    table.to_parquet(file)
    app = open_where(root=tmp_path, run="run", step=4)
    specs = "".join(chart.proto.spec for chart in app.get("plotly_chart"))
    assert "<script>" not in specs
    assert "&lt;script&gt;" in specs or "\\u0026lt;script" in specs


def test_what_training_changed_outside_is_undone_together(open_where: Callable[..., AppTest], tmp_path: Path) -> None:
    """All tensors outside the target matrices share one place in the choice."""
    inputs = write_inputs(tmp_path)
    described = replace(inputs, states=write_states(tmp_path, inputs))
    store = create_run(described, tmp_path / "run", RunSettings.preset_with("scale-free", {}, "wudi"))
    continue_run(store, torch.device("cpu"), workers=1)
    table = attribute(store.path)
    app = open_where(root=tmp_path, run="run", step=2)
    choice = app.multiselect(key="cells")
    assert choice.options.count("outside: outside") == 1
    choice.set_value(["-1.outside"]).run()
    button(app, "Undo these").click().run()
    assert not app.exception
    assert f"Undoing {table.loc[table['layer'] < 0, 'matrix'].nunique()} of {table['matrix'].nunique()}" in words(app)
    (tmp_path / "cells.json").write_text(cells_json([(-1, "outside")], 1.0))
    assert len(read_cells(tmp_path / "cells.json", LiveModel(store, torch.device("cpu")))) == 10


def test_probes_that_changed_since_are_not_compared(
    open_where: Callable[..., AppTest], where_root: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(where_root / "forgetting", tmp_path / "run"))
    probes = Path(shutil.copytree(where_root / "forgetting-probes", tmp_path / "probes"))
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(str(where_root / "forgetting-probes"), str(probes)))
    file = probes / "dev" / "past.jsonl"
    file.write_text(file.read_text().replace("past", "paste", 1))
    app = open_where(root=tmp_path, run="run", step=4)
    button(app, "Choose the 5 worst").click().run()
    button(app, "Undo these").click().run()
    assert not app.exception
    assert "found others" in words(app)


def test_probes_outside_the_apps_folders_are_not_read(
    open_where: Callable[..., AppTest], where_root: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(where_root / "forgetting", tmp_path / "root" / "run"))
    shutil.rmtree(run / "attribution")
    (tmp_path / "secret" / "dev").mkdir(parents=True)
    (tmp_path / "secret" / "dev" / "x.jsonl").write_text('{"secretfield": 1}')
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(str(where_root / "forgetting-probes"), str(tmp_path / "secret")))
    said = words(open_where(root=tmp_path / "root", run="run", step=4))
    assert "lies outside the folders that this app may use" in said
    assert "secretfield" not in said


def test_a_click_adds_a_cell_and_takes_it_out_and_a_box_adds_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {}
    monkeypatch.setattr("gcwm_viz.ui.cell_choice.st.session_state", state)
    axes = GridAxes((0, 1), ("q_proj", "k_proj"))

    def event(*points: tuple[int, int]) -> None:
        state["map"] = {"selection": {"points": [{"curve_number": c, "point_index": i} for c, i in points]}}
        cell_choice.select_from("map", 2, axes)

    event((2, 1))
    assert state["cells"] == ["0.k_proj"]
    event((2, 1))
    assert state["cells"] == []
    event((2, 0), (2, 3), (1, 2))  # marks of another trace lie in the box too
    assert state["cells"] == ["0.q_proj", "1.k_proj"]
    event((2, 0), (2, 2))
    assert state["cells"] == ["0.q_proj", "1.k_proj", "1.q_proj"]
    event()
    assert len(state["cells"]) == 3
    event((2, 0), (2, 2))  # a box whose cells are all selected takes them out
    assert state["cells"] == ["1.k_proj"]


def test_the_job_writes_what_was_chosen(where_root: Path, tmp_path: Path) -> None:
    cells = [(0, "v_proj"), (1, "down_proj")]
    run = where_root / "forgetting"
    spec = restore_job(tmp_path, run, Ends(3, 4), cells, 0.5)
    write_cells(spec, cells, 0.5)
    written = Path(spec.arguments[spec.arguments.index("--cells") + 1])
    assert json.loads(written.read_text()) == json.loads(cells_json(cells, 0.5))
    assert json.loads(written.read_text())["cells"][0] == {"layer": 0, "family": "v_proj", "share": 0.5}
    other = restore_job(tmp_path, run, Ends(3, 4), cells[::-1], 0.5)
    assert other.arguments == spec.arguments  # the order of clicks is not another model
    assert restore_job(tmp_path, run, Ends(2, 4), cells, 0.5).arguments != spec.arguments


def test_the_overview_points_to_it(open_page: Callable[..., AppTest], where_root: Path, forgotten: str) -> None:
    app = open_page("app.py", root=where_root, run="forgetting")
    assert not app.exception
    sentence = next(element.value for element in app.markdown if "raised the loss of" in str(element.value))
    assert "half of the harm came from" in sentence
    assert " of 28 matrices" in sentence
