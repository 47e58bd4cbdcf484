"""The page Decide headless: forecast, verdicts, the choice of a plan, what is measured of it, and what is missing."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.continual.plan_file import RunPlan, parse_plan
from gcwm_viz.decide import plans
from gcwm_viz.decide.benchmark.shipped import read_results
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs, left_out
from gcwm_viz.jobs.forecast import cost, search_job
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui import decision, live, plan_choice
from tests.factories_forecast import (
    BASE,
    VERDICTS,
    change,
    forecasts,
    write_decided,
    write_plan,
    write_predictors,
)
from tests.factories_runs import NASTY, TASKS, write_run
from tests.ui.test_pages import charts, titles, words

PAGE = "pages/8_Decide.py"
ADVISED = {"past": 1.0, "capital": 1.0, "index": 1 / 3, "close": 1.0}
EVERYTHING = dict.fromkeys(TASKS, 1.0)
Opened = Callable[..., AppTest]


def forecast_by(monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    """Let the shipped forecasts be those of :func:`forecasts`."""
    made = forecasts(**how)
    monkeypatch.setattr(plans, "read", lambda: made)
    monkeypatch.setattr(decision, "read", lambda: made)


@pytest.fixture
def decided(open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[AppTest, Path]:
    """The page of a run with a forecast, and the run."""
    forecast_by(monkeypatch)
    run = write_decided(tmp_path)
    return open_page(PAGE, root=tmp_path, run="decided"), run


def plan(app: AppTest, folder: Path) -> RunPlan:
    assert not app.exception
    return parse_plan(app.code[0].value.encode(), "page", folder)


def choose(app: AppTest, update: str, part: float) -> AppTest:
    app.segmented_control(key=f"take-decided-{TASKS.index(update)}-True").set_value(part).run()
    assert not app.exception
    return app


def metric(app: AppTest, label: str) -> str:
    return next(str(element.value) for element in app.metric if element.label == label)


def said(app: AppTest) -> str:
    return (words(app) + "".join(box.value for box in app.success)).replace("\\", "")


def test_verdicts_stand_in_the_order_in_which_they_need_a_decision(decided: tuple[AppTest, Path]) -> None:
    app, _ = decided
    assert not app.exception
    table = app.dataframe[0].value
    assert dict(zip(table["update"], table["verdict"], strict=True)) == VERDICTS
    assert list(table["update"][:3]) == ["symbol", "eval", "index"]
    assert set(table["rests"]) == {"forecast"}
    assert "Recommended: past, capital, close and ⅓ of index (expected 0.640" in said(app)
    assert "n/a: “If left out” is not measured; run leave-one-out" in said(app)
    checked = read_results()["verdicts"]
    own = checked[(checked["method"] == "gcwm") & (checked["needs"] == "labels")]
    assert ("so “Was right” is n/a" in said(app)) == own.empty
    assert (set(table["right"]) == {"n/a"}) == own.empty
    drawn = titles(app)
    assert drawn[:2] == ["Whole, less or without", "Forecast against measured"]
    assert "Taking updates one by one" in drawn


def test_the_plan_is_the_recommended_one_and_runs_as_it_says(decided: tuple[AppTest, Path], tmp_path: Path) -> None:
    app, run = decided
    found = plan(app, tmp_path)
    assert [name for name, _ in found.updates] == list(ADVISED)
    assert found.strengths == {"index": pytest.approx(1 / 3, abs=1e-6)}
    assert found.run_settings() == open_run(run).store.settings
    assert metric(app, "Expected") == f"{BASE + change(ADVISED):.3f}"
    assert metric(app, "Against everything") == f"{change(ADVISED) - change(EVERYTHING):+.3f}"


def test_a_choice_changes_forecast_and_plan_and_the_advice_can_be_taken_again(
    decided: tuple[AppTest, Path], tmp_path: Path
) -> None:
    app, _ = decided
    assert not [button for button in app.button if button.key == "take-recommended"]
    choose(app, "symbol", 1.0)
    assert metric(app, "Expected") == f"{BASE + change(ADVISED | {'symbol': 1.0}):.3f}"
    assert "symbol" in [name for name, _ in plan(app, tmp_path).updates]
    choose(app, "index", 0.0)
    assert "index" not in [name for name, _ in plan(app, tmp_path).updates]
    app.button(key="take-recommended").click().run()
    assert metric(app, "Expected") == f"{BASE + change(ADVISED):.3f}"
    assert [name for name, _ in plan(app, tmp_path).updates] == list(ADVISED)


def test_without_any_update_there_is_no_plan(decided: tuple[AppTest, Path]) -> None:
    app, _ = decided
    for update in TASKS:
        choose(app, update, 0.0)
    assert "A plan needs at least one update" in said(app)
    assert not app.code
    assert not app.metric


def test_nothing_is_computed_again_for_a_choice(decided: tuple[AppTest, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    app, _ = decided
    for name in ("outlook_of", "order_rows", "measured_rows", "read_tables"):
        monkeypatch.setattr(decision, name, lambda *call: pytest.fail("computed again"))
    choose(app, "symbol", 1.0)
    app.segmented_control(key="decide-metric").set_value("nll").run()
    assert not app.exception
    assert "nats per token" in said(app)


def test_a_choice_survives_a_measurement_that_changes_the_advice(decided: tuple[AppTest, Path], tmp_path: Path) -> None:
    app, run = decided
    choose(app, "symbol", 1.0)
    write_plan(run, EVERYTHING, 0.9)  # far better than forecast: taking everything is the advice now
    app.run()
    assert "measured 0.900" in said(app)
    assert [name for name, _ in plan(app, tmp_path).updates] == ["past", "capital", "index", "symbol", "close"]


def test_measured_plans_are_compared_with_the_best(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch)
    run = write_decided(tmp_path)
    write_plan(run, ADVISED, 0.64)
    write_plan(run, EVERYTHING, 0.52)
    app = open_page(PAGE, root=tmp_path, run="decided")
    shown = {element.label: (element.value, element.delta) for element in app.metric}
    assert shown["Measured"][0] == "0.640"
    assert shown["Against everything"] == ("+0.120", "both measured")
    assert shown["Less than the best measured"] == ("0.000", "it is the best")
    assert not [button for button in app.button if button.key == "measure-plan"]
    choose(app, "eval", 1.0)
    choose(app, "symbol", 1.0)
    choose(app, "index", 1.0)
    assert metric(app, "Measured") == "0.520"
    assert metric(app, "Less than the best measured") == "0.120"


def test_what_cannot_be_measured_says_why(
    decided: tuple[AppTest, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app, run = decided
    button = app.button(key="measure-plan")
    assert button.disabled
    assert "without probes" in button.help
    assert "No plan can be measured" in said(app)
    probed(run)
    app.run()
    assert "models/base is not there any more" in app.button(key="measure-plan").help
    assert app.button(key="plan-search-start").disabled
    with_inputs(run)
    monkeypatch.setattr(live, "obstacle", lambda run: "")

    def fails(*call: Any) -> None:
        raise InputError("the base <b>has</b> changed")

    monkeypatch.setattr(plan_choice, "live_model", fails)
    app.run()
    app.button(key="measure-plan").click().run()
    assert not app.exception
    assert "It was not measured:" in [box.value for box in app.error]
    assert "the base <b>has</b> changed" in [text.value for text in app.text]


def test_the_search_is_a_job_with_its_value_and_cost(
    decided: tuple[AppTest, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app, run = decided
    probed(run)
    with_inputs(run)
    folder = run / "plans"
    folder.mkdir(exist_ok=True)
    times = [("start", 10.0), ("matrix", 11.0), ("plan", 14.0), ("complete", 14.1), ("start", 20.0), ("plan", 26.0)]
    lines = [json.dumps({"event": event, "time": time}) for event, time in times]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    assert cost(open_run(run)) == 5.0
    started: list[Any] = []
    monkeypatch.setattr(jobs, "start", lambda *call: started.append(call))
    app.run()
    assert "Worth measuring next: " in said(app)
    assert "Measuring a plan takes about 5 s." in said(app)
    app.number_input(key="plan-minutes").set_value(1.5).run()
    app.button(key="plan-search-start").click().run()
    assert not app.exception
    ((root, name, arguments),) = started
    assert (root, name) == (tmp_path, search_job(run, 0).name)
    assert arguments == ["plan", str(run), "--minutes", "1.5"]


def test_while_the_search_runs_nothing_else_is_measured(
    decided: tuple[AppTest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    app, run = decided
    probed(run)
    monkeypatch.setattr(live, "obstacle", lambda run: "")
    own = search_job(run, 0).name
    monkeypatch.setattr(jobs, "look", lambda root, name: jobs.Job(name, "running" if name == own else "none"))
    (run / "plans").mkdir(exist_ok=True)
    entry = {"event": "plan", "done": 1, "total": 1, "label": f"everything but {NASTY}"}
    (run / "plans" / "journal.jsonl").write_text(json.dumps(entry) + "\n")
    app.run()
    assert not app.exception
    assert app.button(key="measure-plan").disabled
    assert "The search is running" in app.button(key="measure-plan").help
    assert "1 of 1 plans scored" in [bar.proto.text for bar in app.get("progress")]
    assert NASTY not in words(app)
    assert NASTY in said(app)


def test_cost_without_a_measured_plan_is_that_of_the_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal")
    assert math.isnan(cost(open_run(run)))  # no scores were taken by this run
    with (run / "journal.jsonl").open("a") as journal:
        journal.writelines(json.dumps({"event": "probe", "time": at}) + "\n" for at in (1.0, 3.0, 5.0))
    seconds = open_run(run).tables["matrices"].drop_duplicates("matrix")["seconds"].sum(skipna=False)
    assert cost(open_run(run)) == pytest.approx(seconds / 6 + 2, nan_ok=True)


def probed(run: Path) -> None:
    """Let the run say that it has probes."""
    info = json.loads((run / "run.json").read_text()) | {"probes": "probes"}
    (run / "run.json").write_text(json.dumps(info))


def with_inputs(run: Path) -> None:
    """Folders where the run's base and updates were."""
    root = run.parent
    for name in ("models/base", *(f"models/updates/{k}" for k in range(6))):
        (root / name).mkdir(parents=True, exist_ok=True)
    (run / "run.json").write_text((run / "run.json").read_text().replace('"models/', f'"{root}/models/'))


def test_a_forecast_is_computed_by_a_job_and_then_shown(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch)
    run = write_decided(tmp_path)
    for file in (run / "forecast" / "tables").glob("*.parquet"):
        file.unlink()
    with_inputs(run)
    started: list[Any] = []
    monkeypatch.setattr(jobs, "start", lambda *call: started.append(call))
    app = open_page(PAGE, root=tmp_path, run="decided")
    assert "There is no forecast yet" in said(app)
    assert not app.success
    app.button(key="forecast-start").click().run()
    assert started[0][2] == ["forecast", str(run)]
    (run / "forecast" / "tables").rmdir()
    write_predictors(run)  # what the job writes
    app.run()
    assert "Recommended: past, capital, close and ⅓ of index" in said(app)
    assert not [button for button in app.button if button.key == "forecast-start"]


def test_inputs_that_are_gone_are_named_before_the_job_begins(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch)
    write_run(tmp_path, "normal")  # its inputs never were
    app = open_page(PAGE, root=tmp_path, run="normal")
    assert app.button(key="forecast-start").disabled
    assert "models/base is not there any more" in said(app)


def test_probes_that_came_later_are_still_to_be_computed(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch)
    run = write_decided(tmp_path)
    (run / "forecast" / "tables" / "solo.parquet").unlink()
    app = open_page(PAGE, root=tmp_path, run="decided")
    assert "The run has been scored since" in said(app)
    assert app.button(key="forecast-start").label == "Compute the rest"


def test_a_method_without_forecast_has_signals_and_measured_plans(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch, method="wudi")
    run = write_decided(tmp_path)
    write_plan(run, EVERYTHING, 0.5)
    app = open_page(PAGE, root=tmp_path, run="decided")
    assert not app.exception
    assert "No forecast: the benchmark has no forecast for the method gcwm, only for wudi." in said(app)
    assert list(app.dataframe[0].value["interference"]) == pytest.approx([1e-4] * 6)
    assert "No verdict follows from them" in said(app)
    assert (metric(app, "Expected"), metric(app, "Measured")) == ("n/a", "0.500")
    assert "How trustworthy is this?" not in [element.value for element in app.subheader]
    assert titles(app) == ["Effect of leaving the update out", "Effect of every update on every task"]


def test_outside_its_range_a_forecast_shows_signals_and_the_best_measured_plan(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch, bound=0.01)
    run = write_decided(tmp_path)
    write_plan(run, {"past": 1.0, "close": 0.7}, 0.6)
    app = open_page(PAGE, root=tmp_path, run="decided")
    assert not app.exception
    text = said(app)
    assert "This run lies outside what the forecast was fitted on" in text
    assert "Best measured plan: past and 0.7 of close (measured 0.600 ± 0.016)" in text
    assert "verdict" not in app.dataframe[0].value
    assert (metric(app, "Expected"), metric(app, "Measured")) == ("n/a", "0.600")
    found = plan(app, tmp_path)
    assert ([name for name, _ in found.updates], found.strengths) == (["past", "close"], {"close": 0.7})
    assert "Expected improvement" not in text


def test_without_probes_changes_are_forecast(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch)
    run = write_run(tmp_path, "normal", "decided")
    scores = pd.read_parquet(run / "tables" / "scores.parquet")
    scores.iloc[:0].to_parquet(run / "tables" / "scores.parquet")
    write_predictors(run, probes=False)
    app = open_page(PAGE, root=tmp_path, run="decided")
    assert not app.exception
    assert "Recommended: everything (expected +0.200" in said(app)
    assert metric(app, "Expected") == "+0.200"
    assert "Change from the base of the mean exact match" in said(app)
    task = next(frame.value for frame in app.dataframe if "Task" in frame.value)
    assert list(task) == ["Task", "Change"]
    assert task["Change"].to_list() == pytest.approx([0.2] * 6)
    drawn = json.dumps(charts(app))
    assert "expected mean change of exact match" in drawn
    assert not [control for control in app.segmented_control if control.key == "decide-split"]


def test_a_training_pipeline_has_nothing_to_choose(open_page: Opened, tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal")
    states = [{"name": f"state {step}", "path": "models/state", "fingerprint": "f"} for step in range(1, 7)]
    info = json.loads((run / "run.json").read_text()) | {"probes": "probes", "states": states}
    (run / "run.json").write_text(json.dumps(info))
    app = open_page(PAGE, root=tmp_path, run="normal")
    assert not app.exception
    assert "nothing was merged, so there is nothing to choose" in said(app)
    assert not app.code
    assert not charts(app)


def test_one_update_can_be_taken_whole_or_in_part(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast_by(monkeypatch)
    run = write_run(tmp_path, "one")
    write_predictors(run, TASKS[:1])
    app = open_page(PAGE, root=tmp_path, run="one")
    assert not app.exception
    assert len(app.dataframe[0].value) == 1
    assert "needs at least two" in said(app)
    assert app.button(key="left-out-start").disabled
    app.segmented_control(key="take-one-0-True").set_value(1 / 3).run()
    assert "strength: 0.333333" in app.code[0].value


def test_names_are_text(open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forecast_by(monkeypatch)
    run = write_run(tmp_path, "nan")
    write_predictors(run, [*TASKS[:2], NASTY])
    app = open_page(PAGE, root=tmp_path, run="nan")
    assert not app.exception
    assert NASTY not in words(app) + "".join(box.value for box in app.success)
    assert not [control.label for control in app.segmented_control if NASTY in control.label]
    assert "<b>" not in json.dumps(charts(app))
    assert "the score is not defined" in said(app)
    assert app.button(key="left-out-start").label == "Go on measuring"


def test_the_step_chooses_the_update_that_was_left_out(open_page: Opened) -> None:
    app = open_page(PAGE, run="normal", step=3)
    assert "Here of index; the step in the side bar chooses the update" in said(app)
    effects = next(chart for chart in charts(app) if chart["layout"]["title"]["text"].startswith("Effect of leaving"))
    assert "change of exact match when left out" in json.dumps(effects)
    app.segmented_control(key="decide-split").set_value("test").run()
    assert not app.exception


def test_a_button_starts_leave_one_out(open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, "normal")
    (run / "leave_one_out" / "tables" / "leave_one_out.parquet").unlink()
    probed(run)
    started: list[Any] = []
    monkeypatch.setattr(jobs, "start", lambda *call: started.append(call))
    app = open_page(PAGE, root=tmp_path, run="normal", step=1)
    app.button(key="left-out-start").click().run()
    assert not app.exception
    ((root, name, arguments),) = started
    assert root == tmp_path
    assert jobs.valid_name(name)
    assert arguments == ["leave-one-out", str(run), "--device", "auto"]


@pytest.mark.parametrize(("status", "says"), [("failed", "ended with an error"), ("cancelled", "was cancelled")])
def test_ended_jobs_say_how(
    open_page: Opened, run_root: Path, monkeypatch: pytest.MonkeyPatch, status: jobs.Status, says: str
) -> None:
    monkeypatch.setattr(jobs, "look", lambda root, name: jobs.Job(name, status, "the last line"))
    app = open_page(PAGE, run="normal")
    for subject in ("Leave-one-out", "The forecast"):
        assert f"{subject} {says}" in words(app)
    assert "the last line" in words(app)


def test_a_running_job_shows_progress_and_takes_a_cancel(
    open_page: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, "normal")
    monkeypatch.setattr(jobs, "look", lambda root, name: jobs.Job(name, "running"))
    folders = {"leave_one_out": "matrix", "forecast": "piece"}
    for folder, event in folders.items():
        (run / folder).mkdir(exist_ok=True)
        entry = {"event": event, "done": 7, "total": 28, "label": "without <b>x</b>"}
        (run / folder / "journal.jsonl").write_text(json.dumps(entry) + "\n")
    app = open_page(PAGE, root=tmp_path, run="normal")
    assert not app.exception
    assert "without <b>x</b>" in words(app).replace("\\", "")
    assert "<b>" not in words(app)
    bars = [bar.proto.text for bar in app.get("progress")]
    assert bars == ["7 of 28 parts of the forecast computed", "7 of 28 matrices merged"]
    for key, folder in (("forecast-cancel", "forecast"), ("left-out-cancel", "leave_one_out")):
        app.button(key=key).click().run()
        assert (run / folder / "cancel").is_file()
        assert app.run().button(key=key).label == "Stopping…"


@pytest.mark.parametrize(
    "table",
    ["leave_one_out/tables/leave_one_out", "tables/scores", "plans/tables/plans", "forecast/tables/pairs"],
)
def test_broken_tables_are_named_not_raised(open_page: Opened, tmp_path: Path, table: str) -> None:
    run = write_run(tmp_path, "normal")
    (run / table).parent.mkdir(parents=True, exist_ok=True)
    (run / f"{table}.parquet").write_bytes(b"not parquet")
    app = open_page(PAGE, root=tmp_path, run="normal")
    assert not app.exception
    assert ".parquet is not a readable table" in words(app)


def test_obstacles_are_those_of_the_command(run_root: Path) -> None:
    assert "without probes" in left_out.obstacle(open_run(run_root / "normal"))
