"""The page Ask on real small runs: typed prompts, probes from a link, and everything that can be missing."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.probes.generation import Token, greedy
from gcwm_viz.ui import ask, live
from tests import factories_lab
from tests.factories_lab import HOSTILE
from tests.ui.test_pages import words

PAGE = "pages/14_Ask.py"
EGYPT = {"run": "trained", "task": "capital", "split": "dev", "example": "1"}


@pytest.fixture(scope="session")
def lab_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lab")
    factories_lab.trained(root)
    factories_lab.merged(root)
    return root


@pytest.fixture
def open_ask(open_page: Callable[..., AppTest], lab_root: Path) -> Callable[..., AppTest]:
    def opened(**query: object) -> AppTest:
        app = open_page(PAGE, root=lab_root, **query)
        assert not app.exception
        return app

    return opened


def cards(app: AppTest) -> list[str]:
    return [element.proto.body for element in app.get("html") if "ask-card" in element.proto.body.split("</style>")[-1]]


def named(app: AppTest, label: str) -> Any:
    return next(button for button in app.button if button.label == label)


def query(app: AppTest) -> dict[str, Any]:
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def test_before_a_question_no_model_is_loaded(
    open_ask: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_load", lambda *key: pytest.fail("loaded"))
    app = open_ask(run="trained")
    assert not cards(app)
    assert "Type a prompt" in words(app)
    assert named(app, "A forgotten one").proto.help.endswith("2 of 4 examples of this task.")


def test_a_typed_prompt_is_answered_by_all_and_kept_in_the_link(open_ask: Callable[..., AppTest]) -> None:
    app = open_ask(run="trained")
    app.text_input(key="ask-text").set_value("capital Egypt=")
    named(app, "Ask").click().run()
    assert not app.exception
    shown = cards(app)
    assert [
        name in card
        for name, card in zip(("Base", "Expert", "step 1", "step 2", "step 3", "step 4"), shown, strict=True)
    ]
    assert all("probability" in card for card in shown)
    assert any("right" in card for card in shown)  # it is an example of the task capital, whose answer is known
    app.text_input(key="ask-text").set_value("capital Egyp=")
    named(app, "Ask").click().run()
    assert not any("right" in card for card in cards(app))
    assert "The answer changes" in words(app)
    app.text_input(key="ask-text").set_value("capital Egypt=")
    named(app, "Ask").click().run()
    assert "Expected: **Cairo**. **Right** after steps 2 and 3" in words(app)
    assert query(app)["prompt"] == "capital Egypt="
    assert "task" not in query(app)
    again = open_ask(run="trained", prompt="capital Egypt=")
    assert cards(again) == shown


def test_a_probe_from_a_link_says_where_it_is_lost(open_ask: Callable[..., AppTest]) -> None:
    app = open_ask(**EGYPT)
    assert "Expected: **Cairo**. **Right** after steps 2 and 3, **lost at step 4, which adds symbol**." in words(app)
    assert "The base is wrong and the expert is right." in words(app)
    assert ["✓ right" in card for card in cards(app)] == [False, True, False, True, True, False]
    assert "✗ lost here" in cards(app)[-1]
    assert app.text_input(key="ask-text").value == "capital Egypt="
    assert app.selectbox(key="ask-expert-capital").value == "capital"


def test_the_forgotten_are_offered_one_after_another(open_ask: Callable[..., AppTest]) -> None:
    app = open_ask(run="trained")
    seen = set()
    for _ in range(2):
        named(app, "A forgotten one").click().run()
        seen.add(query(app)["example"])
        assert "**lost at step 4" in words(app)
    assert seen == {"1", "2"}
    app.number_input(key="ask-example").set_value(3).run()
    assert query(app)["example"] == "3"
    assert "**Wrong after every step**" in words(app)


def test_answers_are_kept_until_the_question_changes(
    open_ask: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def counted(*call: Any) -> Iterator[Token]:
        asked.append(call)
        return greedy(*call)

    monkeypatch.setattr(ask, "greedy", counted)
    app = open_ask(**EGYPT)
    assert len(asked) == 6
    app.slider(key="step").set_value(2).run()
    assert len(asked) == 6
    steps = next(choice for choice in app.multiselect if choice.label == "After steps")
    steps.set_value([1, 3]).run()
    assert len(asked) == 6
    assert len(cards(app)) == 4
    app.selectbox(key="ask-expert-capital").set_value("symbol").run()
    assert len(asked) == 7
    app.slider(key="ask-most").set_value(32).run()
    assert len(asked) == 7 + 4


def test_of_many_steps_eight_are_asked_first(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="wide")
    assert next(choice for choice in app.multiselect if choice.label == "After steps").value == [
        1,
        3,
        5,
        7,
        8,
        10,
        12,
        14,
    ]


def test_choices_are_judged_by_the_likeliest(open_ask: Callable[..., AppTest]) -> None:
    app = open_ask(run="trained", task="letters", example=1, split="test")
    assert "Expected: **prayed**." in words(app)
    assert any("✓ right" in card for card in cards(app))


@pytest.mark.parametrize("query", [{"prompt": HOSTILE}, {"task": "capital", "split": "dev", "example": 4}])
def test_hostile_text_is_literal(open_ask: Callable[..., AppTest], query: dict[str, Any]) -> None:
    app = open_ask(run="trained", **query)
    assert app.text_input(key="ask-text").value == HOSTILE
    for element in (*app.markdown, *app.caption, *app.info):
        assert "<script" not in element.value
        assert "$x^2$" not in element.value
    assert len(cards(app)) == 6
    assert not any("<script" in card for card in cards(app))
    app = open_ask(run="trained", task="capital", split="dev", example=3)
    assert r"Expected: **\<b\>\$x\$\***." in words(app)


def test_prompts_of_several_lines_are_shown_as_they_are(open_ask: Callable[..., AppTest]) -> None:
    app = open_ask(run="trained", prompt="past pray=\n<b>x")
    assert app.code[0].value == "past pray=\n<b>x"
    assert app.text_input(key="ask-text").value == ""


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"prompt": "x" * 4001}, "4001 characters, expected at most 4000"),
        ({"prompt": "x" * 200}, "201 tokens, expected at most 63"),
        ({"task": "<b>", "example": "1"}, r"no task '\<b\>' with right answers"),
        ({"task": "prose", "example": "1"}, "no task 'prose' with right answers"),
        ({"task": "capital", "split": "test"}, "no task 'capital' with right answers in 'test'"),
        ({"task": "capital", "example": "5"}, "the examples 1 to 4, and no '5'"),
        ({"task": "capital", "example": "-1"}, "the examples 1 to 4"),
        ({"task": "capital", "example": "9" * 5000}, "the examples 1 to 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said(open_ask: Callable[..., AppTest], query: dict[str, Any], said: str) -> None:
    app = open_ask(run="trained", **query)
    assert said in words(app).replace("\\'", "'").replace("\\,", ",")
    assert not any("probability" in card for card in cards(app))


def test_a_run_that_keeps_its_last_step_alone_and_has_no_probes(open_ask: Callable[..., AppTest]) -> None:
    app = open_ask(run="merged", prompt="capital Egypt=")
    assert [("Base" in card, "After step 2" in card) for card in cards(app)] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert "keeps the tensors of its last step alone" in words(app)
    assert "names no probe files" in words(app)
    app = open_ask(run="merged", task="capital", example=1)
    assert "cannot be asked without its probe file" in words(app)


@pytest.mark.parametrize("how", ["missing", "changed", "outside"])
def test_probe_files_that_cannot_be_used(
    open_page: Callable[..., AppTest], lab_root: Path, tmp_path: Path, how: str
) -> None:
    run = copied(lab_root, tmp_path)
    probes = factories_lab.write_probes(tmp_path / "probes")
    where = {"missing": tmp_path / "gone", "changed": probes, "outside": Path("/etc")}[how]
    edited(run, lambda info: info | {"probes": str(where)})
    if how == "changed":
        (probes / "dev" / "capital.jsonl").write_text('{"prompt": "x", "answer": "y"}\n')
    app = open_page(PAGE, root=tmp_path, run="trained", prompt="capital Egypt=")
    assert not app.exception
    said = {"missing": "found nothing", "changed": "found others", "outside": "lies outside the folders"}[how]
    assert said in words(app)
    assert "No probe can be taken" in words(app)
    assert len(cards(app)) == 6


@pytest.mark.parametrize(
    ("base", "said"), [("gone", "found nothing"), ("/etc", "lies outside"), ("s3://bucket/base", "another machine")]
)
def test_a_base_that_is_not_there(
    open_page: Callable[..., AppTest], lab_root: Path, tmp_path: Path, base: str, said: str
) -> None:
    run = copied(lab_root, tmp_path)
    where = str(tmp_path / base) if base == "gone" else base
    edited(run, lambda info: info | {"base": info["base"] | {"path": where}})
    app = open_page(PAGE, root=tmp_path, run="trained", prompt="x")
    assert not app.exception
    assert said in words(app)
    assert len(app.error) + len(app.info) == 1


def test_too_little_memory_is_said_unless_the_model_is_there(
    open_ask: Callable[..., AppTest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in ("trained", "merged"):  # the second names no probes, so that its need is estimated here
        live._held.clear()
        monkeypatch.setattr(live, "available_memory", lambda: 1000)
        assert "GiB of memory" in words(open_ask(run=run, prompt="x"))
        monkeypatch.setattr(live, "available_memory", lambda: 2**34)
        app = open_ask(run=run, prompt="x")
        assert cards(app)
        monkeypatch.setattr(live, "available_memory", lambda: 1000)
        assert cards(app.run())


def test_a_state_that_cannot_be_read_is_said_on_its_card(
    open_page: Callable[..., AppTest], lab_root: Path, tmp_path: Path
) -> None:
    run = copied(lab_root, tmp_path)
    (run / "matrices" / "00003.json").write_text("{")
    app = open_page(PAGE, root=tmp_path, run="trained", prompt="capital Egypt=")
    assert not app.exception
    assert ["damaged" in card for card in cards(app)] == [False, False, True, True, True, True]


def copied(root: Path, to: Path) -> Path:
    return Path(shutil.copytree(root / "trained", to / "trained"))


def edited(run: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    file = run / "run.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
