"""The page Try: every change is a variant with its scores, its link and its way back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from gcwm_viz.calibration.calibrate import calibrate
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import parse_plan
from gcwm_viz.decide.variants import Variants
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.ui import live, variant_scores, variant_table
from gcwm_viz.ui.variant_trail import Trail
from tests.torture.small import NAMES, write_inputs
from tests.ui.test_pages import charts, words

PAGE = "pages/15_Try.py"
Opened = Callable[..., AppTest]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scored and calibrated run of three updates."""
    root = tmp_path_factory.mktemp("try")
    write_inputs(root / "inputs")
    inputs = Inputs(
        base=root / "inputs" / "base",
        updates=[(name, root / "inputs" / name) for name in NAMES],
        probes=root / "inputs" / "probes",
    )
    store = create_run(inputs, root / "runs" / "tiny", RunSettings())
    continue_run(store, torch.device("cpu"), workers=1)
    calibrate(store.path, CalibrationSettings(passes=1, held_out=0.5))
    return root


@pytest.fixture
def opened(open_page: Opened, root: Path) -> Opened:
    def of_run(**query: object) -> AppTest:
        app = open_page(PAGE, root=root / "runs", options=["--allow", str(root / "inputs")], run="tiny", **query)
        return fine(app)

    return of_run


def fine(app: AppTest) -> AppTest:
    assert not app.exception
    assert not app.error
    return app


def link(app: AppTest) -> str:
    value = app.query_params["try"]
    return str(value[0] if isinstance(value, list) else value)


def control(app: AppTest, kind: str, name: str) -> Any:
    """A control of the variant by its key, whichever drawing made it, or by its label."""
    every: list[Any] = list(app.get(kind))
    return next(each for each in every if each.label == name or str(each.key).startswith(f"try-{name}"))


def press(app: AppTest, label: str) -> AppTest:
    next(button for button in app.button if button.label == label).click().run()
    return fine(app)


def chosen(app: AppTest) -> str:
    return str(app.metric[0].value)


def test_a_first_visit_shows_the_run_and_loads_no_model(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_load", lambda *key: pytest.fail("loaded"))
    app = opened()
    assert link(app) == "run"
    assert [app.metric[0].value, app.metric[2].value, app.metric[2].delta] == [
        app.metric[1].value,
        "0",
        "the same model",
    ]
    assert [trace["name"] for trace in charts(app)[0]["data"]] == [
        "your choice",
        "run as it stands",
        "base",
        "own expert",
    ]
    assert "Their order does not change" in words(app)
    assert "The test split, on a press" in words(app)


def test_every_change_is_scored_and_undone(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened()
    app.segmented_control(key="try-metric").set_value("nll").run()
    as_run, seen = chosen(app), [link(app)]
    control(app, "number_input", "eta").set_value(0.5).run()
    assert link(fine(app)) == "~~0.5_eta"
    assert chosen(app) != as_run
    control(app, "number_input", "strength-1").set_value(0.5).run()
    control(app, "toggle", "Gate on").set_value(False).run()
    control(app, "slider", "Threshold τ").set_value(0.3).run()
    control(app, "toggle", "Calibrated").set_value(True).run()
    control(app, "button", "out-0").click().run()
    control(app, "button", "↓-0").click().run()
    assert link(fine(app)) == "1_third~0.5_second~~0.5_eta~none_gate~0.3_tau~calibrated"
    assert "cannot hold calibrated coefficients" in words(app)
    table = app.dataframe[0].value
    assert len(table) == 8
    assert table["What"].iloc[-1] == (
        "without first; in the order third, second; strength of second 0.5; η 0.5; gate off; τ 0.3; calibrated "
        "coefficients"
    )
    assert table["Development"].notna().all()
    assert table["Test"].notna().sum() == 0
    press(app, "Add first")
    assert link(app).startswith("1_first~1_third~0.5_second~~")
    monkeypatch.setattr(Variants, "scores", lambda *arguments: pytest.fail("scored again"))
    for _ in range(8):
        press(app, "Undo")
        seen.append(link(app))
    assert link(app) == "run"
    assert chosen(app) == as_run
    assert control(app, "number_input", "eta").value == 1.0
    assert control(app, "number_input", "strength-1").value == 1.0
    for _ in range(7):
        press(app, "Redo")
    assert control(app, "slider", "Threshold τ").value == 0.3
    press(app, "As run")
    assert link(app) == "run"


def test_a_link_alone_gives_the_same_scores_and_controls(opened: Opened) -> None:
    first = opened()
    control(first, "button", "out-1").click().run()
    control(first, "number_input", "eta").set_value(0.7).run()
    fine(first)
    again = opened(**{"try": link(first)})
    assert link(again) == link(first) == "1_first~1_third~~0.7_eta"
    assert chosen(again) == chosen(first)
    assert [control(again, "number_input", name).value for name in ("strength-0", "strength-2", "eta")] == [1, 1, 0.7]
    assert [button.label for button in again.button if button.label.startswith("Add")] == ["Add second"]
    plan = parse_plan(again.code[0].value.encode(), "page")
    assert [name for name, _ in plan.updates] == ["first", "third"]
    assert plan.settings["eta"] == 0.7


def test_a_link_of_something_else_is_one_sentence_and_the_run(opened: Opened, open_page: Opened, root: Path) -> None:
    app = open_page(
        PAGE, root=root / "runs", options=["--allow", str(root / "inputs")], run="tiny", **{"try": "1_first~1_<b>x"}
    )
    assert not app.exception
    assert [box.value for box in app.error] == ["The link's variant cannot be shown:"]
    assert "takes update '<b>x'" in "".join(text.value for text in app.text)
    assert link(app) == "run"


def test_the_test_split_is_scored_on_a_press_alone(opened: Opened) -> None:
    app = opened(**{"try": "~~0.5_eta"})
    app.segmented_control(key="try-split").set_value("test").run()
    assert chosen(fine(app)) == "n/a"
    assert "in this session: 0" in words(app)
    app.button(key="try-score-test").click().run()
    assert chosen(fine(app)) != "n/a"
    assert "in this session: 1" in words(app)
    assert not [button for button in app.button if button.key == "try-score-test"]
    assert app.dataframe[0].value["Test"].notna().all()  # the run's own are stored


def test_a_larger_model_waits_for_a_press_and_says_how_long(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variant_scores, "SMALL", 0)
    monkeypatch.setattr(Variants, "expected", lambda *arguments: 12.0)
    app = opened(**{"try": "~~0.5_eta"})
    assert chosen(app) == "n/a"
    press(app, "Score on the development split, about 12 s")
    assert chosen(app) != "n/a"
    monkeypatch.setattr(Variants, "expected", lambda *arguments: 4.0)
    control(app, "number_input", "eta").set_value(0.6).run()
    assert chosen(fine(app)) != "n/a"


def test_a_model_that_cannot_be_held_points_to_decide(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "obstacle", lambda run: "this model needs 900 GiB.")
    app = opened(**{"try": "~~0.5_eta"})
    assert "this model needs 900 GiB." in words(app)
    assert "The page Decide and the command" in words(app)
    assert chosen(app) == "n/a"


def test_a_click_in_the_history_goes_back(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    trail = Trail()
    for text in ("~~0.5_eta", "~~0.6_eta"):
        trail.go(text)
    state = {variant_table._HISTORY: {"selection": {"rows": [], "cells": [(1, "What")]}}}
    monkeypatch.setattr(st, "session_state", state)
    variant_table._pick(["run", "~~0.5_eta", "~~0.6_eta"], trail.go)
    assert trail.text == "~~0.5_eta"
    assert trail.texts == ["run", "~~0.5_eta", "~~0.6_eta", "~~0.5_eta"]
    state[variant_table._HISTORY]["selection"] = {"rows": [], "cells": []}
    variant_table._pick(["run"], trail.go)
    assert trail.text == "~~0.5_eta"


def test_another_way_from_an_earlier_variant_forgets_the_later_ones() -> None:
    trail = Trail()
    for text in ("a", "b", "c"):
        trail.go(text)
    trail.move(-2)
    trail.go("d")
    assert trail.texts == ["run", "a", "d"]
    trail.move(5)
    assert trail.text == "d"


def test_an_update_taken_out_is_merged_ahead(opened: Opened, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticked: list[Any] = []
    monkeypatch.setattr(variant_scores, "_ahead", lambda run, variant: ticked.append(variant))
    app = opened()
    assert len(ticked) == 1
    monkeypatch.setattr(Variants, "likely", lambda *arguments: None)
    app.run()
    assert len(ticked) == 1
