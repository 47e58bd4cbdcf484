"""The talk: the story of any run, numbers from the run, the question and the undo on a real one, and pinned charts."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.attribution.worst import worst_step
from gcwm_viz.errors import InputError
from gcwm_viz.figures import task_scores
from gcwm_viz.probes.tasks import PromptTask
from gcwm_viz.runs.highlights import peak, scored
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui import live, pin_file, pins
from gcwm_viz.ui.pin_file import Pin
from gcwm_viz.ui.probe_files import answered_tasks, lost_examples
from tests.factories_runs import NASTY, make_tables, write_run
from tests.ui.test_ask import cards
from tests.ui.test_pages import VIEWS, charts, words

PAGE = "pages/9_Talk.py"
STORIES = {
    "normal": ["Forgetting", "Place", "Decision", "After"],
    "nan": ["Forgetting", "Place", "Decision", "After"],
    "one": ["Decision", "After"],
}
"""Of generated runs, whose model is nowhere: no question and no undo."""


def names(app: AppTest) -> list[str]:
    return [button.label for button in app.button if re.fullmatch(r"talk-\d+", str(button.key))]


def press(app: AppTest, label: str) -> AppTest:
    return next(button for button in app.button if button.label == label).click().run()


@pytest.mark.parametrize(("kind", "story"), STORIES.items())
def test_only_screens_that_apply_are_shown_and_each_draws(
    open_page: Callable[..., AppTest], kind: str, story: list[str]
) -> None:
    app = open_page(PAGE, run=kind)
    assert names(app) == story
    titles = set()
    for screen in range(1, len(story) + 1):
        app = open_page(PAGE, run=kind, screen=screen)
        assert not app.exception
        assert len(charts(app)) == 1
        assert all(element.proto.alt for element in app.get("plotly_chart"))
        assert re.search(r"\d", app.markdown[0].value)
        assert "nan" not in "\n".join(element.value for element in app.markdown).lower()
        assert NASTY not in words(app)
        titles.add(app.title[0].value)
    assert len(titles) == len(story)


def test_numbers_are_those_of_the_run(open_page: Callable[..., AppTest], run_root: Path) -> None:
    run = open_run(run_root / "normal")
    found: Any = scored(run)
    kept = found.downstream.iloc[-1]
    first = words(open_page(PAGE, run="normal", screen=1))
    assert f"{100 * kept['old_mean']:#.3g} % ± {196 * kept['old_mean_se']:#.3g} points" in first
    worst: Any = worst_step(run.tables["attribution"], run.updates)
    second = words(open_page(PAGE, run="normal", screen=2))
    assert f"by **{worst.change:#.3g} nats**" in second
    assert f"**{len(worst.half)} of 28 matrices**" in second
    last = words(open_page(PAGE, run="normal", screen=4))
    assert f"{100 * found.R.iloc[-1].mean():.3g} %" in last
    assert f"{100 * found.own.mean():.3g} %" in last


def test_next_back_and_the_numbers_turn(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal")
    shortcuts = {button.label: button.proto.shortcut for button in app.button}
    assert shortcuts == {
        "Back": "left",
        "Forgetting": "1",
        "Place": "2",
        "Decision": "3",
        "After": "4",
        "Next": "right",
    }
    assert next(button for button in app.button if button.label == "Back").disabled
    titles = [app.title[0].value, press(app, "Next").title[0].value, press(app, "After").title[0].value]
    assert len(set(titles)) == 3
    assert next(button for button in app.button if button.label == "Next").disabled
    assert app.query_params["screen"] in ("4", ["4"])
    assert press(press(app, "Back"), "Back").title[0].value == titles[1]


@pytest.mark.parametrize(("screen", "shown"), [("99", 4), ("x", 1), ("-3", 1), ("²", 1)])
def test_wrong_screen_in_a_link_falls_back(open_page: Callable[..., AppTest], screen: str, shown: int) -> None:
    app = open_page(PAGE, run="normal", screen=screen)
    assert not app.exception
    assert app.button(key=f"talk-{shown}").proto.type == "primary"


def test_without_attribution_the_place_is_that_of_conflict(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "bare")
    shutil.rmtree(run / "attribution")
    (run / "tables" / "scores.parquet").unlink()
    app = open_page(PAGE, root=tmp_path)
    assert names(app) == ["Place", "Decision"]
    top: Any = peak(open_run(run).tables["matrices"].query("step == 6"))
    assert f"layer {top['layer']}" in words(app)


def test_a_run_of_which_nothing_is_known_says_so(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "one")
    shutil.rmtree(run / "attribution")
    (run / "tables" / "scores.parquet").unlink()
    make_tables("one")["matrices"].assign(conflict=np.nan).to_parquet(run / "tables" / "matrices.parquet")
    assert "nothing to tell" in words(open_page(PAGE, root=tmp_path))


def test_training_one_after_another_is_set_beside_merging(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal", "merged")
    trained = write_run(tmp_path, "normal", "trained", seed=3)
    info = json.loads((trained / "run.json").read_text())
    info["states"] = [{"name": f"s{n}", "path": "p", "fingerprint": "f"} for n in range(6)]
    (trained / "run.json").write_text(json.dumps(info))
    app = open_page(PAGE, root=tmp_path, run="merged", screen=1)
    lines = charts(app)[0]["data"]
    assert [trace["name"] for trace in lines] == ["merging (gcwm)", "training one after another"]
    assert all(trace["error_y"]["array"] for trace in lines)
    assert "training one after another keeps" in words(app)
    app = open_page(PAGE, root=tmp_path, run="trained", screen=99)
    assert "trained on all in turn" in [trace["name"] for trace in charts(app)[0]["data"]]
    assert "One model trained on 6 tasks one after another" in words(app)
    assert not any("merged" in str(element.value) for element in app.main.markdown)


def test_the_question_is_a_lost_one_and_another_can_be_asked(
    open_page: Callable[..., AppTest], where_root: Path
) -> None:
    app = open_page(PAGE, root=where_root, run="forgetting", screen=1)
    assert not app.exception
    assert names(app) == ["Question", "Forgetting", "Place", "Undo", "After"]
    assert len(cards(app)) == 6
    assert re.search(r"\*\*lost at step \d", words(app))
    run = open_run(where_root / "forgetting")
    tasks = answered_tasks(run)
    first = dict(app.query_params)
    worst: Any = worst_step(run.tables["attribution"], run.updates)
    asked = {name: value[0] if isinstance(value, list) else value for name, value in first.items()}
    lost = lost_examples(run, tasks)[asked["split"], asked["task"]]
    assert asked["task"] == worst.task
    assert int(asked["example"]) in lost
    assert f"**{len(lost)} of 10** questions" in words(app)
    if len(lost) > 1:
        app = press(app, "Another lost one")
        assert dict(app.query_params) != first
    task: Any = next(task for task in tasks.values() if isinstance(task, PromptTask))
    app.text_input(key="ask-text").set_value(task.prompts[0])
    app = press(app, "Ask")
    assert task.prompts[0].replace("=", "\\=") in app.markdown[0].value
    assert len(cards(app)) == 6


def test_without_the_model_the_scores_of_the_run_answer(
    open_page: Callable[..., AppTest], where_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "obstacle", lambda run: "this model needs more memory.")
    app = open_page(PAGE, root=where_root, run="forgetting", screen=1)
    assert names(app) == ["Question", "Forgetting", "Place", "After"]
    assert not app.text_input
    assert "cannot be loaded" in words(app)
    shown = cards(app)
    assert "wrong" in shown[-1]
    assert "lost here" in "".join(shown)
    assert any("✓ right" in card for card in shown)
    assert "probability" not in "".join(shown)


def test_u_puts_the_worst_matrices_back_and_takes_it_back(open_page: Callable[..., AppTest], where_root: Path) -> None:
    app = open_page(PAGE, root=where_root, run="forgetting", screen=4)
    run = open_run(where_root / "forgetting")
    worst: Any = worst_step(run.tables["attribution"], run.updates)
    assert f"took {worst.task} from" in words(app)
    before = [trace["name"] for trace in charts(app)[0]["data"]]
    assert before == ["before the step", "after the step"]
    assert app.button(key="talk-undo").proto.shortcut == "u"
    app.button(key="talk-undo").click().run()
    assert not app.exception
    assert f"Undoing {len(worst.half)} of 28 matrices takes back" in words(app)
    after = charts(app)[0]
    assert [trace["name"] for trace in after["data"]] == [*before, "cells undone"]
    arrived = [label.split("<br>")[0].split(" (")[0] for label in after["layout"]["xaxis"]["ticktext"]]
    assert arrived == list(scored(run).R)  # type: ignore[union-attr]
    app.button(key="talk-undo").click().run()
    assert [trace["name"] for trace in charts(app)[0]["data"]] == before


@pytest.mark.parametrize("page", VIEWS)
def test_every_chart_of_the_app_can_be_pinned(
    open_page: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    """Hostile names are in their labels, escaped; the check of a file from elsewhere must let them pass."""
    drawn = []
    monkeypatch.setattr(pins, "button", lambda figure, about, key: drawn.append((figure, about, key)))
    assert not open_page(page, run="nan").exception
    for figure, about, key in drawn:
        pin_file.check(Pin("Scores", key, {}, about.title, about.line, figure.to_json()))


def pinned(run: Path) -> list[str]:
    return [pin.key for pin in pin_file.read(run)]


def test_a_pinned_chart_is_a_screen_that_moves_and_goes(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal")
    app = open_page("pages/5_Scores.py", root=tmp_path, step=3)
    retention = next(chart for chart in charts(app) if chart["layout"]["title"]["text"] == "Retention by task")
    for key in ("retention", "forgetting", "retention"):
        app.button(key=f"{key}-pin").click().run()
        assert "Pinned to the talk" in app.toast[-1].value
    assert pinned(run) == ["retention", "forgetting"]
    app = open_page(PAGE, root=tmp_path, screen=5)
    assert names(app)[4:] == ["Pin 1", "Pin 2"]
    assert app.title[0].value == "Retention by task"
    assert charts(app)[0]["data"] == retention["data"]
    assert "Snapshot of Scores: run normal, step 3" in words(app)
    (link,) = (link.proto for link in app.get("page_link") if link.proto.label == "Open it there")
    assert (link.page, "step=3" in link.query_string) == ("Scores", True)
    app = press(app, "Later")
    assert pinned(run) == ["forgetting", "retention"]
    assert app.title[0].value == "Retention by task"
    app = press(app, "Unpin")
    assert pinned(run) == ["forgetting"]
    assert app.title[0].value == "Forgetting by task"
    assert not press(app, "Unpin").exception
    assert names(app) == STORIES["normal"]


def test_a_folder_that_cannot_be_written_keeps_pins_for_the_session(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, "normal")

    def refuse(*arguments: object) -> None:
        raise InputError("read-only")

    monkeypatch.setattr(pin_file, "write", refuse)
    app = open_page("pages/5_Scores.py", root=tmp_path)
    app.button(key="retention-pin").click().run()
    assert "for this session only: read\\-only" in app.toast[-1].value
    assert not (run / pin_file.FILE).exists()
    assert "Pin 1" in names(app.switch_page(PAGE).run())


def a_pin(**changes: Any) -> dict[str, Any]:
    figure = json.loads(task_scores.task_scores({}, unit="x").to_json())
    pin = {"page": "Scores", "key": "k", "parameters": {"run": "normal"}, "title": "T", "line": "L", "figure": figure}
    return pin | changes


IMAGE = {"data": [], "layout": {"images": [{"source": "https://example.org/x.png"}]}}
WRONG: dict[str, Any] = {
    "no object": "[]",
    "cut": '{"pins": [',
    "too many": {"pins": [a_pin()] * (pin_file.MOST + 1)},
    "another key": {"pins": [a_pin(more=1)]},
    "no such page": {"pins": [a_pin(page="../x")]},
    "a number for a text": {"pins": [a_pin(title=3)]},
    "a long text": {"pins": [a_pin(line="x" * 5000)]},
    "parameters": {"pins": [a_pin(parameters={"run": 1})]},
    "no figure": {"pins": [a_pin(figure="x")]},
    "too large": {"pins": [a_pin(figure={"data": [], "layout": {"meta": "x" * (pin_file.LARGEST + 1)}})]},
    "an image": {"pins": [a_pin(figure=IMAGE)]},
    "a map": {"pins": [a_pin(figure={"data": [{"type": "scattergeo"}], "layout": {}})]},
    "a link": {"pins": [a_pin(figure={"data": [], "layout": {"title": {"text": "<a href='https://x'>y</a>"}}})]},
    "no such property": {"pins": [a_pin(figure={"data": [{"type": "bar", "colour": 1}], "layout": {}})]},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_the_app_would_not_write_is_refused(tmp_path: Path, case: str) -> None:
    content = WRONG[case]
    (tmp_path / pin_file.FILE).write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=re.escape(pin_file.FILE)):
        pin_file.read(tmp_path)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    pin = Pin(**a_pin() | {"figure": json.dumps(a_pin()["figure"])})
    pin_file.write(tmp_path, [pin])
    assert pin_file.read(tmp_path) == [pin]
    assert pin.draw().layout.annotations[0].text


def test_pins_are_bounded() -> None:
    pin = Pin(**a_pin() | {"figure": json.dumps(a_pin()["figure"])})
    many = [Pin(**a_pin(key=str(k)) | {"figure": pin.figure}) for k in range(pin_file.MOST)]
    with pytest.raises(InputError, match="unpin one first"):
        pin_file.added(many, pin)
    assert len(pin_file.added(many, many[3])) == pin_file.MOST
    with pytest.raises(InputError, match="at most 2,000,000"):
        pin_file.added([], Pin(**a_pin() | {"figure": " " * (pin_file.LARGEST + 1)}))


def test_damaged_pins_do_not_end_the_story(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    (write_run(tmp_path, "normal") / pin_file.FILE).write_text("{")
    app = open_page(PAGE, root=tmp_path, screen=5)
    assert not app.exception
    assert names(app)[4:] == ["Pins"]
    assert "talk\\.json" in words(app)
    app = open_page("pages/5_Scores.py", root=tmp_path)
    app.button(key="retention-pin").click().run()
    assert "talk\\.json" in app.toast[-1].value
