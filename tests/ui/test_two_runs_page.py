"""The page that compares two runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests.factories_runs import write_run

PAGE = "pages/7_Two_runs.py"


def charts(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(element.proto.spec) for element in app.get("plotly_chart")]


def words(app: AppTest) -> str:
    return "\n".join(str(element.value) for kind in (app.info, app.text, app.caption, app.error) for element in kind)


def test_a_run_against_its_copy_differs_nowhere(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal", "a")
    write_run(tmp_path, "normal", "b")
    app = open_page(PAGE, root=tmp_path, run="a")
    assert not app.exception
    assert [box.label for box in app.selectbox if box.key == "against"] == ["Second run"]
    assert {metric.label: metric.value for metric in app.metric}["Mean difference"] == "0"
    assert "other updates" not in words(app)


def test_different_strengths_are_said(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal", "a")
    file = write_run(tmp_path, "normal", "b") / "run.json"
    content = json.loads(file.read_text())
    content["updates"][1]["strength"] = 0.33
    file.write_text(json.dumps(content))
    app = open_page(PAGE, root=tmp_path, run="a", against="b")
    assert not app.exception
    assert "The runs take updates at different strengths: all at 1 against capital 0.33." in words(app).replace(
        "\\", ""
    )
    app = open_page(PAGE, root=tmp_path, run="a", against="b", step=1)  # before it arrives
    assert "strengths" not in words(app)


def test_a_link_names_both_runs(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal", against="wide", step=2)
    assert not app.exception
    assert app.selectbox(key="against").value == "wide"
    assert "different updates" in words(app)


@pytest.mark.parametrize(("against", "said"), [("empty", "no finished step"), ("one", "choose an earlier step")])
def test_what_cannot_be_compared_is_said(open_page: Callable[..., AppTest], against: str, said: str) -> None:
    app = open_page(PAGE, run="normal", against=against)
    assert not app.exception
    assert said in words(app)


def test_one_run_alone_says_how_to_get_another(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal", "a")
    app = open_page(PAGE, root=tmp_path)
    assert not app.exception
    assert "there is only one" in words(app)


def test_broken_second_run_is_named(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal", "a")
    run = write_run(tmp_path, "normal", "b")
    (run / "tables" / "matrices.parquet").write_bytes(b"not parquet")
    app = open_page(PAGE, root=tmp_path, run="a")
    assert not app.exception
    assert "matrices.parquet" in words(app)


def test_unscored_second_run_keeps_the_signals(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal", "a")
    run = write_run(tmp_path, "normal", "b", seed=1)
    (run / "tables" / "scores.parquet").unlink()
    app = open_page(PAGE, root=tmp_path, run="a")
    assert not app.exception
    assert len(charts(app)) == 6
    assert "Scores need probes in both runs" in words(app)
