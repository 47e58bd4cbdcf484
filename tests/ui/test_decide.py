"""The decision page headless: verdicts, thresholds, the job, the plan."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import RunPlan, parse_plan
from gcwm_viz.jobs import jobs, left_out
from gcwm_viz.runs.tables import open_run
from tests.factories_runs import NASTY, write_run
from tests.ui.test_pages import titles, words

PAGE = "pages/8_Decide.py"


def plan(app: AppTest, folder: Path) -> RunPlan:
    return parse_plan(app.code[0].value.encode(), "page", folder)


def ticked(app: AppTest) -> list[str]:
    return [box.label for box in app.checkbox if box.value]


def test_verdict_and_plan_of_a_measured_run(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    app = open_page(PAGE, run="normal", step=3)
    assert "Why: index" in [element.value for element in app.subheader]
    said = words(app) + "".join(box.value for box in (*app.success, *app.warning, *app.info))
    assert "Integrate: all tasks together do better with it" in said
    assert "does not depend on the order" in said
    assert ticked(app) == ["past", "capital", "index", "symbol", "close", "eval"]
    assert "Measured for exactly these updates (step 6)" in said
    found = plan(app, tmp_path)
    assert [name for name, _ in found.updates] == ["past", "capital", "index", "symbol", "close", "eval"]
    assert found.run_settings() == RunSettings.preset_with("scale-free", {})


def test_taking_an_update_out_changes_the_plan(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    app = open_page(PAGE, run="normal")
    app.checkbox[2].uncheck().run()
    assert [name for name, _ in plan(app, tmp_path).updates] == ["past", "capital", "symbol", "close", "eval"]
    assert "(leave-one-out)" in words(app)
    app.checkbox[0].uncheck().run()
    assert "This set has not been measured yet" in words(app)
    order = [name for name, _ in plan(app, tmp_path).updates]
    app.segmented_control(key="plan-order").set_value("least conflict first").run()
    other = [name for name, _ in plan(app, tmp_path).updates]
    assert sorted(other) == sorted(order)
    assert other != order
    for box in app.checkbox:
        box.uncheck()
    app.run()
    assert not app.exception
    assert "at least one update" in words(app)


def test_thresholds_turn_verdicts_and_ticks(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal")
    harm = next(slider for slider in app.slider if slider.label == "Others, better without")
    harm.set_value(0.0).run()
    assert not app.exception
    assert len(ticked(app)) < 6
    gate = next(slider for slider in app.slider if slider.label == "Gate above conflict")
    gate.set_value(0.99).run()
    assert not app.exception
    assert "the gate's is used for both" in words(app)


def test_verdicts_follow_split_and_metric(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal")
    for key, value in (("decide-split", "test"), ("decide-metric", "nll")):
        app.segmented_control(key=key).set_value(value).run()
        assert not app.exception
    assert "nats per token" in words(app)


def test_a_run_of_one_update_says_what_is_missing(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="one")
    assert not app.exception
    said = words(app)
    assert "needs at least two" in said
    assert "run leave-one-out" in said.replace("\\", "")  # escaped for Markdown
    assert app.button(key="left-out-start").disabled
    drawn = json.dumps([json.loads(element.proto.spec) for element in app.get("plotly_chart")])
    assert "An order needs two updates" in drawn


def test_holes_are_named(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="nan")
    assert not app.exception
    assert "the score is not defined" in words(app)
    assert "Adding updates one by one" in titles(app)
    assert NASTY not in words(app)
    assert app.button(key="left-out-start").label == "Go on measuring"


def test_measured_is_said_of_leave_one_out_alone(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal")
    (run / "leave_one_out" / "tables" / "leave_one_out.parquet").unlink()
    with_it = open_page(PAGE, run="normal").dataframe[0].value["evidence"]
    without = open_page(PAGE, root=tmp_path, run="normal").dataframe[0].value["evidence"]
    assert "measured, clear" in set(with_it)
    assert not without.str.contains("measured").any()


def test_button_starts_the_job_once(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, "normal")
    (run / "leave_one_out" / "tables" / "leave_one_out.parquet").unlink()
    info = json.loads((run / "run.json").read_text()) | {"probes": "probes"}
    (run / "run.json").write_text(json.dumps(info))
    started: list[Any] = []

    def start(*call: Any) -> bool:
        started.append(call)
        return True

    monkeypatch.setattr(jobs, "start", start)
    app = open_page(PAGE, root=tmp_path, run="normal", step=1)
    assert "This is a prediction" in "".join(box.value for box in (*app.info, *app.warning, *app.success))
    app.button(key="left-out-start").click().run()
    assert not app.exception
    ((root, name, arguments),) = started
    assert root == tmp_path
    assert jobs.valid_name(name)
    assert arguments == ["leave-one-out", str(run), "--device", "auto"]


@pytest.mark.parametrize(("status", "says"), [("failed", "ended with an error"), ("cancelled", "was cancelled")])
def test_ended_jobs_say_how(
    open_page: Callable[..., AppTest], run_root: Path, monkeypatch: pytest.MonkeyPatch, status: jobs.Status, says: str
) -> None:
    monkeypatch.setattr(jobs, "look", lambda root, name: jobs.Job(name, status, "the last line"))
    app = open_page(PAGE, run="normal")
    assert says in words(app)
    assert "the last line" in words(app)


def test_running_job_shows_progress_and_takes_a_cancel(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, "normal")
    monkeypatch.setattr(jobs, "look", lambda root, name: jobs.Job(name, "running"))
    entry = {"event": "matrix", "done": 7, "total": 28, "label": "without <b>x</b>"}
    (run / "leave_one_out" / "journal.jsonl").write_text(json.dumps(entry) + "\n")
    app = open_page(PAGE, root=tmp_path, run="normal")
    assert not app.exception
    assert "without <b>x</b>" in words(app).replace("\\", "")
    assert "<b>" not in words(app)
    app.button(key="left-out-cancel").click().run()
    assert (run / "leave_one_out" / "cancel").is_file()
    assert app.run().button(key="left-out-cancel").label == "Stopping…"


@pytest.mark.parametrize("table", ["leave_one_out/tables/leave_one_out", "tables/scores"])
def test_broken_tables_are_named_not_raised(open_page: Callable[..., AppTest], tmp_path: Path, table: str) -> None:
    run = write_run(tmp_path, "normal")
    (run / f"{table}.parquet").write_bytes(b"not parquet")
    app = open_page(PAGE, root=tmp_path, run="normal")
    assert not app.exception
    assert ".parquet is not a readable table" in words(app)


def test_a_trained_run_is_not_left_out(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal")
    (run / "leave_one_out" / "tables" / "leave_one_out.parquet").unlink()
    states = [{"name": f"state {step}", "path": "models/state", "fingerprint": "f"} for step in range(1, 7)]
    info = json.loads((run / "run.json").read_text()) | {"probes": "probes", "states": states}
    (run / "run.json").write_text(json.dumps(info))
    app = open_page(PAGE, root=tmp_path, run="normal")
    assert not app.exception
    assert app.button(key="left-out-start").disabled
    assert "training pipeline" in words(app)
    assert "training on one task after another" in words(app).replace("\\", "")


def test_obstacles_are_those_of_the_command(run_root: Path) -> None:
    assert "without probes" in left_out.obstacle(open_run(run_root / "normal"))
