"""``forecast`` and ``plan`` from a user's side: what they print, write and refuse."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.cli import main
from gcwm_viz.continual.plan_file import read_plan
from gcwm_viz.decide import forecast, plans
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.tables import open_run
from tests.factories_forecast import VERDICTS, forecasts, write_decided, write_plan
from tests.factories_runs import TASKS, write_run

LOCAL = ("--device", "cpu", "--workers", "1")


def forecast_by(monkeypatch: pytest.MonkeyPatch, **how: Any) -> None:
    made = forecasts(**how)
    monkeypatch.setattr(forecast, "read", lambda: made)
    monkeypatch.setattr(plans, "read", lambda: made)


def without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictors and plans of generated runs are there already."""
    from gcwm_viz.decide import predict

    monkeypatch.setattr(predict, "predict", lambda *call, **how: None)
    monkeypatch.setattr(plans, "check_searchable", lambda store: None)
    monkeypatch.setattr(plans, "search", lambda run, **how: plans.outlook_of(open_run(run)))


def lines(text: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_forecast_prints_a_verdict_on_every_update_and_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast_by(monkeypatch)
    without_work(monkeypatch)
    run = write_decided(tmp_path)
    assert main(["forecast", str(run), *LOCAL]) == 0
    said = capsys.readouterr().out
    rows = [[cell.strip() for cell in row] for row in lines(said)[1:7]]
    assert {row[0]: row[1] for row in rows} == VERDICTS
    assert rows[0][0] == "symbol"  # what needs a decision comes first
    assert rows[0][3] == "over 99 %"
    assert "Recommended: past, capital, close and ⅓ of index (expected 0.640 ± " in said
    assert "Forecast for gcwm on 6 tasks from the updates, and probes of base and experts." in said


def test_plan_prints_the_best_measured_plans_and_writes_the_recommended_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast_by(monkeypatch)
    without_work(monkeypatch)
    run = write_decided(tmp_path)
    write_plan(run, {"past": 1.0, "capital": 1.0, "index": 1 / 3, "close": 1.0}, 0.64)
    write_plan(run, dict.fromkeys(TASKS, 1.0), 0.5)
    file = tmp_path / "plan.yaml"
    assert main(["plan", str(run), *LOCAL, "--out", str(file)]) == 0
    said = capsys.readouterr().out
    table = said[said.index("best measured plans") :].splitlines()
    assert [cell.strip() for cell in lines(table[1])[0]] == [
        "past, capital, close and ⅓ of index", "0.640", "0.640", "0.000",
    ]  # fmt: skip
    assert [cell.strip() for cell in lines(table[2])[0]] == ["everything", "0.500", "0.500", "0.140"]
    assert f"wrote {file}: past, capital, close and ⅓ of index" in said
    plan = read_plan(file)
    assert [name for name, _ in plan.updates] == ["past", "capital", "index", "close"]
    assert plan.strengths == {"index": pytest.approx(1 / 3, abs=1e-6)}


def test_no_plan_is_written_where_the_base_is_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast_by(monkeypatch)
    without_work(monkeypatch)
    monkeypatch.setattr(plans, "search", lambda run, **how: replace(plans.outlook_of(open_run(run)), plan=(0.0,) * 6))
    file = tmp_path / "plan.yaml"
    assert main(["plan", str(write_decided(tmp_path)), *LOCAL, "--out", str(file)]) == 2
    printed = capsys.readouterr()
    assert "Recommended: hold everything" in printed.out
    assert "no plan of run" in printed.err
    assert not file.exists()


def test_outside_the_range_there_are_signals_and_measured_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forecast_by(monkeypatch, bound=0.01)
    without_work(monkeypatch)
    run = write_decided(tmp_path)
    write_plan(run, {"past": 1.0, "close": 1.0}, 0.6)
    assert main(["plan", str(run), *LOCAL]) == 0
    said = capsys.readouterr().out
    assert said.startswith("update   Interference")
    assert "This run lies outside what the forecast was fitted on" in said
    assert "Best measured plan: past and close (measured 0.600" in said
    assert "integrate" not in said
    assert "forecast  " not in said[said.index("best measured plans") :]


def test_a_method_without_forecast_has_signals_and_no_search(
    tiny_run: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forecast_by(monkeypatch, method="wudi")
    run = Path(shutil.copytree(tiny_run("ties"), tmp_path / "run"))
    assert main(["forecast", str(run), *LOCAL]) == 0
    said = capsys.readouterr().out
    assert [row[0].strip() for row in lines(said)[1:4]] == ["first", "second", "third"]
    assert "No forecast: the benchmark has no forecast for the method ties, only for wudi." in said
    shutil.rmtree(run / "forecast")
    assert main(["plan", str(run), *LOCAL]) == 2
    assert "no forecast for the method ties" in capsys.readouterr().err
    assert not (run / "forecast").exists()  # refused before anything is computed


def test_a_plan_is_searched_measured_and_run(
    tiny_run: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    forecast_by(monkeypatch, method="wudi")
    run = Path(shutil.copytree(tiny_run(), tmp_path / "run"))
    file, out = tmp_path / "plan.yaml", tmp_path / "again"
    assert main(["plan", str(run), "--measure", "2", "--out", str(file), *LOCAL]) == 0
    said = capsys.readouterr().out
    assert "orth measuring" in said
    assert open_run(run).tables["plans"]["plan"].nunique() <= 2
    assert main(["run", "--plan", str(file), "--out", str(out), *LOCAL]) == 0
    assert set(open_run(out).updates) <= {"first", "second", "third"}


@pytest.mark.parametrize("command", ["forecast", "plan"])
def test_refusals_are_one_sentence(
    tiny_run: Callable[..., Path],
    tiny_inputs: Inputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    forecast_by(monkeypatch, method="wudi")
    assert main([command, str(tmp_path), *LOCAL]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    run = write_run(tmp_path, "normal")
    info = json.loads((run / "run.json").read_text())
    info["states"] = [{"name": f"s{k}", "path": "state", "fingerprint": "f"} for k in range(6)]
    (run / "run.json").write_text(json.dumps(info))
    assert main([command, str(run), *LOCAL]) == 2
    said = capsys.readouterr().err
    assert "describes a training pipeline" in said
    assert said.count("\n") == 1
    if command == "plan":
        assert main([command, str(tiny_run(inputs=replace(tiny_inputs, probes=None))), *LOCAL]) == 2
        assert "without probes, so there is nothing to score" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "says"), [("--measure=x", "a number of plans"), ("--minutes=-1", "a number of minutes")]
)
def test_limits_are_checked(capsys: pytest.CaptureFixture[str], option: str, says: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["plan", "run", option])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
