"""The page Examples on a small real run with choices, prompts and texts."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
import torch
from streamlit.testing.v1 import AppTest

from gcwm_viz.errors import InputError
from gcwm_viz.probes.answers import answer as answer_of
from gcwm_viz.runs.examples import FORGOTTEN, example_table
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui import example_answers, examples, scoring
from gcwm_viz.ui.live import live_model
from tests.factories_flips import HOSTILE, write_flips
from tests.ui.test_pages import charts, titles, words

PAGE = "pages/13_Examples.py"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_flips(tmp_path_factory.mktemp("flips")).parent


@pytest.fixture
def opened(open_page: Callable[..., AppTest], runs: Path) -> Callable[..., AppTest]:
    """opened(task="first") → the page on that run, whose inputs the app may use."""
    return lambda root=runs, **query: open_page(PAGE, root=root, options=("--allow", str(runs)), **query)


def shown(app: AppTest) -> pd.DataFrame:
    assert not app.exception
    assert not app.error
    (table,) = app.dataframe
    return table.value


def answered(app: AppTest) -> str:
    """HTML of the answers."""
    (table,) = (element.proto.body for element in app.get("html") if "<table" in element.proto.body)
    return str(table)


def stored(runs: Path, split: str = "test") -> pd.DataFrame:
    return example_table(open_run(runs / "flips"), split)


def test_what_the_last_step_forgot_comes_first(opened: Callable[..., AppTest], runs: Path) -> None:
    app = opened(task="first")
    table = stored(runs).query("task == 'first'")
    lost = table[table["status_3"].isin(FORGOTTEN)]
    assert shown(app)["example"].tolist() == lost["example"].tolist()
    assert set(shown(app)["step_3"]) == {"✕"}
    assert set(shown(app)["status"]) == set(FORGOTTEN)
    assert titles(app) == ["Answers that changed at each step"]
    count = table["status_3"].value_counts()
    assert f"of 24 examples: {count['lost']} lost, {count['still lost']} still lost" in words(app)
    assert f"{len(lost)} shown; {24 - len(lost)} more with another status" in words(app)


def test_filters_and_the_step_slider(opened: Callable[..., AppTest], runs: Path) -> None:
    app = opened(task="first", split="dev", step=2)
    table = stored(runs, "dev").query("task == 'first'")
    app.pills(key="status").set_value(["regained", "kept"]).run()
    assert shown(app)["example"].tolist() == table[table["status_2"].isin(["regained", "kept"])]["example"].tolist()
    app.slider(key="step").set_value(3).run()
    assert shown(app)["example"].tolist() == table[table["status_3"].isin(["regained", "kept"])]["example"].tolist()
    app.pills(key="status").set_value([]).run()
    assert len(shown(app)) == 24
    app.selectbox(key="task").set_value("All tasks").run()
    assert shown(app)["task"].tolist() == ["first"] * 24 + ["second"] * 6 + ["third"] * 7


def test_search_finds_prompts_and_answers_as_they_are_written(opened: Callable[..., AppTest]) -> None:
    app = opened(status="")
    for search, found in {"7+7=": 1, "SECOND 4": 1, "<B>3": 8, HOSTILE.upper(): 1, ".*": 0, "": 37}.items():
        app.text_input(key="search").set_value(search).run()
        assert len(shown(app) if found else app.dataframe) == found, search
    app.text_input(key="search").set_value("nothing at all").run()
    assert "0 shown" in words(app)


def test_an_example_in_the_address_is_answered_by_every_state(opened: Callable[..., AppTest], runs: Path) -> None:
    app = opened(task="first", example="first:3")
    assert [header.value for header in app.header] == ["first, example 3"]
    assert titles(app) == ["Answers that changed at each step", "Loss of the expected answer"]
    table = answered(app)
    names = ["base", "expert of first", "step 1 · first", "step 2 · second", "step 3 · third"]
    assert [table.index(name) for name in names] == sorted(table.index(name) for name in names)
    row = stored(runs).query("task == 'first' and example == 3").iloc[0]
    for value in (row["status_1"], row["status_2"], row["status_3"]):
        assert f" {value}<" in table
    assert table.count("✓") == int(row[["base", "expert", "step_1", "step_2", "step_3"]].sum())
    assert table.count(" %</td>") == 5  # every state's choices, each with its share
    assert charts(app)[1]["data"][0]["marker"]["symbol"][0] == ("circle" if row["base"] else "circle-open")
    again = opened(task="first", example=3)  # a number alone, where a task is chosen
    assert [header.value for header in again.header] == ["first, example 3"]


def test_text_of_files_and_models_is_literal(opened: Callable[..., AppTest]) -> None:
    app = opened(task="first", example="first:3", status="")
    assert HOSTILE in shown(app)["prompt"][2]
    assert any(HOSTILE in block.value for block in app.code)
    for element in (*app.markdown, *app.caption, *app.header):
        assert HOSTILE not in element.value
    for element in app.get("html"):
        assert "<img" not in element.proto.body
        assert "<b>" not in element.proto.body
    assert "&lt;b&gt;3&lt;/b&gt;" in answered(app)
    assert "<b>" not in json.dumps(charts(app))


def test_a_prompt_has_greedy_answers(opened: Callable[..., AppTest]) -> None:
    app = opened(task="second", status="never right", example="second:1")
    assert "Greedy answer" in answered(app)
    assert answered(app).count("✕ never right") == 3
    assert answered(app).count("probability") > 5
    assert [block.value for block in app.code] == ["second 0=", "0"]


def test_texts_have_a_loss_and_no_right_or_wrong(opened: Callable[..., AppTest], runs: Path) -> None:
    app = opened(task="third", example="third:2")
    table = stored(runs).query("task == 'third'")
    assert "no right or wrong" in words(app)
    change = table["step_3"] - table["step_2"]
    assert shown(app)["change"].tolist() == sorted(change, reverse=True)
    assert "neither right nor wrong" in json.dumps(charts(app)[0])
    assert titles(app)[1] == "Contribution of this text to the loss"
    assert "✕" not in answered(app)
    assert "The text" in answered(app)


def test_an_example_is_answered_once(opened: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch) -> None:
    app = opened(task="first", example="first:3")
    monkeypatch.setattr(example_answers, "live_model", None)
    before = answered(app)
    app.pills(key="status").set_value(["kept"]).run()
    assert answered(app) == before
    assert [header.value for header in app.header] == ["first, example 3"]  # whatever the filter shows


@pytest.mark.parametrize("example", ["first:99", "second", "<b>:1", "first:-1", ":", "first:1:1"])
def test_nonsense_in_the_address_chooses_nothing(opened: Callable[..., AppTest], example: str) -> None:
    app = opened(task="nothing", split="x", status="y", example=example)
    assert not app.header
    assert len(shown(app))


def test_clicks_on_rows_and_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {}
    address: dict[str, str] = {}
    monkeypatch.setattr(st, "session_state", state)
    monkeypatch.setattr(st, "query_params", address)
    for rows, cells, expected in (
        ([1], [], {"example": "b:7"}),
        ([1], [(0, "prompt")], {"example": "a:5"}),  # the row ticked before, and the cell clicked now
        ([], [], {}),
        ([9], [], {}),
    ):
        state["example-rows"] = {"selection": {"rows": rows, "cells": cells}}
        examples._pick(["a:5", "b:7"])
        assert address == expected


def changed(runs: Path, folder: Path, **entries: object) -> Path:
    """A run root with a copy of the run whose run.json has other entries."""
    shutil.copytree(runs / "flips", folder / "flips")
    file = folder / "flips" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    return folder


def test_without_its_probe_files_the_flips_stay(opened: Callable[..., AppTest], runs: Path, tmp_path: Path) -> None:
    for place, probes in enumerate((str(runs / "flips-inputs" / "base"), "/elsewhere", None)):
        app = opened(root=changed(runs, tmp_path / str(place), probes=probes), task="first", example="first:3")
        assert set(shown(app)["prompt"]) == {""}
        assert "No prompts and answers:" in words(app)
        assert titles(app) == ["Answers that changed at each step", "Loss of the expected answer"]
        assert not [element for element in app.get("html") if "<table" in element.proto.body]


def test_a_run_without_examples_says_how_to_get_them(
    opened: Callable[..., AppTest], runs: Path, tmp_path: Path
) -> None:
    root = changed(runs, tmp_path)
    for file in (root / "flips" / "probes").glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"examples": []}))
    app = opened(root=root)
    assert not app.exception
    assert "no examples to show" in words(app)
    assert "score RUN --replace" in words(app)
    assert not app.dataframe


def test_a_model_that_cannot_answer_leaves_the_rest(
    opened: Callable[..., AppTest], runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = json.loads((runs / "flips" / "run.json").read_text())["base"]
    for place, where in enumerate((str(tmp_path / "gone"), "/elsewhere")):
        app = opened(root=changed(runs, tmp_path / str(place), base=base | {"path": where}), example="first:3")
        assert "The model cannot answer:" in words(app)
        assert len(titles(app)) == 2
        assert not app.exception
    monkeypatch.setattr(example_answers, "obstacle", lambda run: "this model needs 9 GiB.")
    assert "The model cannot answer: this model needs 9 GiB." in words(opened(example="first:3"))


def test_logits_that_are_not_finite_are_said_in_their_row(
    opened: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = answer_of

    def answer(model: Any, tokenizer: Any, task: Any, example: int) -> Any:
        if not calls:
            calls.append(example)
            raise InputError("the logits of token 1 of the <b>answer</b> are not finite")
        return whole(model, tokenizer, task, example)

    calls: list[int] = []
    monkeypatch.setattr(example_answers, "answer", answer)
    table = answered(opened(task="second", example="second:1"))
    assert "of the &lt;b&gt;answer&lt;/b&gt; are not finite" in table
    assert table.count("<tr") == 6


def test_a_small_model_computes_in_one_thread(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["app.py", "--run-root", str(runs)])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with live_model(open_run(runs / "flips")) as model:
            assert torch.get_num_threads() == 1
            assert model.model.training is False
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_a_run_that_keeps_its_last_step(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_flips(tmp_path, "last", ["--set", "keep=last"])
    app = open_page(PAGE, root=tmp_path, task="first", step=2, status="")
    assert "Step 2 was not scored" in words(app)
    assert "keeps the model of its last step alone" in words(app)
    app = open_page(PAGE, root=tmp_path, step=3, example="first:3")
    assert answered(app).count("<tr") == 4
    assert "those of earlier steps cannot answer" in words(app)


def test_ask_is_linked_for_what_has_a_right_answer(opened: Callable[..., AppTest]) -> None:
    def links(example: str) -> list[str]:
        found = opened(status="", example=example).get("page_link")
        return [link.proto.query_string for link in found if link.proto.label == "Ask this →"]

    (query,) = links("first:3")
    assert "task=first&example=3&split=test" in query
    assert not links("third:3")


def test_scores_link_to_the_lost_examples(open_page: Callable[..., AppTest], runs: Path) -> None:
    app = open_page("pages/5_Scores.py", root=runs)
    assert not app.exception
    links = [link.proto for link in app.get("page_link") if "status=" in link.proto.query_string]
    assert [link.label for link in links] == ["first", "second"]
    assert "task=first&split=test&status=lost&status=still+lost" in links[0].query_string
    assert "Click a bar" in words(app)
    assert not [link for link in open_page("pages/5_Scores.py", root=runs, step=1).get("page_link")
                if "status=" in link.proto.query_string]  # fmt: skip


def test_a_click_on_a_bar_is_kept_for_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    state: dict[str, Any] = {"forgetting": {"selection": {"points": [{"point_index": 1}]}}}
    monkeypatch.setattr(st, "session_state", state)
    scoring._click(["first", "second"])
    assert state.pop("clicked-task") == "second"
    state["forgetting"] = {"selection": {"points": []}}
    scoring._click(["first", "second"])
    assert "clicked-task" not in state
