"""Scoring another gate from the Gate page: asked once, watched, shown beside the run's own scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.jobs import jobs, regate
from tests.factories_runs import NASTY, write_run
from tests.ui.test_pages import charts, words

PAGE = "pages/3_Gate.py"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A generated run that claims probes; its tensors are not needed to ask the question."""
    run = write_run(tmp_path, "normal", "lab")
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(info | {"probes": "somewhere"}))
    monkeypatch.setattr(regate, "check_regatable", lambda store: None)
    return tmp_path


def answer(step: int = 6) -> dict[str, Any]:
    rows = [
        {"task": task, "split": split, "metric": metric, "n": 9, "as_run": 0.5, "as_run_se": 0.1, "regated": 0.6,
         "regated_se": 0.1, "difference": 0.1, "difference_se": error}
        for task, error in (("a", 0.03), (NASTY, None)) for split in ("dev", "test") for metric in ("em", "nll")
    ]  # fmt: skip
    return {"format": "gcwm_viz.regate", "step": step, "scores": rows}


def move(app: AppTest) -> Any:
    next(slider for slider in app.slider if slider.label == "Threshold τ").set_value(0.9).run()
    return next((button for button in app.button if button.label == "Score this gate"), None)


def test_button_starts_the_command(
    open_page: Callable[..., AppTest], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    def start(*call: Any) -> bool:
        started.append(call)
        return True

    monkeypatch.setattr(jobs, "start", start)
    app = open_page(PAGE, root=root, step=3)
    assert next(button for button in app.button if button.label == "Score this gate").disabled
    move(app).click().run()
    assert not app.exception
    (_, name, arguments), *_ = started
    assert name == regate.job_name(root / "lab")
    assert arguments[:4] == ["regate", str(root / "lab"), "--step", "3"]
    assert "tau=0.9" in arguments
    assert "gate=conflict" in arguments


def test_answer_is_shown_for_its_gate_and_step_only(open_page: Callable[..., AppTest], root: Path) -> None:
    app = open_page(PAGE, root=root)
    before = len(charts(app))
    settings = GCWMConfig(tau=0.9)
    file = regate.answer_file(root, root / "lab", 6, settings)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(answer()))
    assert move(app) is None
    assert not app.exception
    assert len(charts(app)) == before + 1
    shown = {box.label: box.value for box in app.metric}
    assert (shown["As run"], shown["With this gate"]) == ("0.500", "0.600")
    assert shown["Change"] == "+0.100 ± n/a"
    bars = charts(app)[-1]["data"][0]["error_y"]["array"]
    assert bars is not None
    app.slider(key="step").set_value(2).run()
    assert next(button for button in app.button if button.label == "Score this gate")


def test_another_run_in_the_same_folder_has_other_answers(open_page: Callable[..., AppTest], root: Path) -> None:
    file = regate.answer_file(root, root / "lab", 6, GCWMConfig(tau=0.9))
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(answer()))
    info = json.loads((root / "lab" / "run.json").read_text())
    info["settings"]["continual"]["eta"] = 0.5
    (root / "lab" / "run.json").write_text(json.dumps(info))
    assert move(open_page(PAGE, root=root)) is not None  # asked anew


def test_tasks_stand_in_the_order_of_arrival(open_page: Callable[..., AppTest], root: Path) -> None:
    file = regate.answer_file(root, root / "lab", 6, GCWMConfig(tau=0.9))
    file.parent.mkdir(parents=True)
    rows = [row | {"task": task} for task in ("close", "other", "past") for row in answer()["scores"][:4]]
    file.write_text(json.dumps(answer() | {"scores": rows}))
    app = open_page(PAGE, root=root)
    move(app)
    assert charts(app)[-1]["layout"]["xaxis"]["ticktext"] == ["past", "close", "other"]


def test_failure_is_told_and_broken_answers_are_none(
    open_page: Callable[..., AppTest], root: Path, tmp_path: Path
) -> None:
    folder = root / ".jobs" / regate.job_name(root / "lab")
    folder.mkdir(parents=True)
    (folder / "state.json").write_text('{"status": "failed"}')
    (folder / "log").write_text("gcwm_viz: the base has changed\n")
    assert "the base has changed" in words(open_page(PAGE, root=root))
    file = tmp_path / "x.json"
    for text in ("{", "[]", '{"format": "other"}'):
        file.write_text(text)
        assert regate.read_answer(file) is None


def test_a_run_that_cannot_be_regated_says_why(open_page: Callable[..., AppTest]) -> None:
    assert "matrices are missing" in words(open_page(PAGE, run="normal"))
