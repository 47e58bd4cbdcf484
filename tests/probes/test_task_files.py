"""Kinds of probe lines and ``probes.json``: what is read, and what is refused with its place named."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.commands.options import probe_folder
from gcwm_viz.errors import InputError
from gcwm_viz.probes.tasks import (
    GENERAL,
    ChoiceTask,
    HarnessTask,
    PromptTask,
    Style,
    TextTask,
    has_probe_files,
    load_split,
    load_tasks,
    probes_fingerprint,
)
from tests.probes.test_tasks import pair, write


def question(answer: int | str | bool, choices: Sequence[object] = ("red", "blue", "B")) -> str:
    return json.dumps({"question": "Which?", "choices": list(choices), "answer": answer})


def describe(folder: Path, **content: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "probes.json").write_text(json.dumps(content))


def test_every_kind_of_file(tmp_path: Path) -> None:
    write(tmp_path / "dev" / "a.jsonl", [pair("p", "q")])
    write(tmp_path / "dev" / "b.jsonl", [question(1), question("A"), question("blue"), question("C")])
    write(tmp_path / "test" / "c.jsonl", [json.dumps({"text": "one"}), json.dumps({"text": "two", "source": "x"})])
    assert load_tasks(tmp_path) == [
        PromptTask("a", "dev", ("p",), ("q",)),
        ChoiceTask("b", "dev", ("Which?",) * 4, (("red", "blue", "B"),) * 4, (1, 0, 1, 2)),
        TextTask("c", "test", ("one", "two")),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (question("B"), "'B' is the letter of one choice and the text of another"),
        (question(3), "index from 0 to 2, a letter from A to C or the text of a choice, found int '3'"),
        (question(-1), "found int '-1'"),
        (question(True), "found bool"),
        (question("green"), "found str 'green'"),
        (question("D"), "found str 'D'"),
        (question(0, ["red"]), "2 to 26 different strings, found 1"),
        (question(0, ["red", "red"]), "found 2, 1 of them different"),
        (question(0, [str(k) for k in range(27)]), "found 27"),
        (question(0, ["red", ""]), 'expected "choices" to be a list of non-empty strings'),
        (question(0, ["red", 2]), "list of non-empty strings"),
        (question(0, ["red", "x" * 20_001]), "expected every choice of at most 20000 characters"),
        (json.dumps({"choices": ["a", "b"], "answer": 0}), 'expected "question"'),
        (pair("p", "q"), 'expected "choices" as in the lines before it'),
    ],
)
def test_bad_choices_are_named(tmp_path: Path, line: str, said: str) -> None:
    write(tmp_path / "dev" / "a.jsonl", [question(0), line])
    with pytest.raises(InputError, match=r"a\.jsonl:2: ") as caught:
        load_tasks(tmp_path)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_lines_of_no_kind(tmp_path: Path) -> None:
    write(tmp_path / "dev" / "a.jsonl", [json.dumps({"instruction": "x", "output": "y"})])
    with pytest.raises(
        InputError, match=r"a\.jsonl:1: .*question/choices/answer, or prompt/answer, or text, found ins"
    ):
        load_tasks(tmp_path)


def test_styles_of_the_folder_and_of_single_files(tmp_path: Path) -> None:
    write(tmp_path / "dev" / "a.jsonl", [pair("p", "q")])
    write(tmp_path / "test" / "b.jsonl", [question(1)])
    describe(tmp_path, chat=False, scoring="text", tasks={"b": {"chat": True, "system": "be brief"}})
    first: Any
    second: Any
    first, second = load_tasks(tmp_path)
    assert first.style == Style(chat=False, scoring="text")
    assert second.style == Style(chat=True, system="be brief", scoring="text")


def test_harness_tasks_are_named_in_the_description(tmp_path: Path) -> None:
    describe(tmp_path, lm_eval={"tasks": ["arc_easy", "piqa"], "limit": 20, "num_fewshot": 0})
    assert load_tasks(tmp_path) == [
        HarnessTask("arc_easy", "test", 20, 0), HarnessTask("piqa", "test", 20, 0)
    ]  # fmt: skip
    assert has_probe_files(tmp_path) == (True, False)
    write(tmp_path / "test" / "piqa.jsonl", [pair("p", "q")])
    with pytest.raises(InputError, match=r"the harness task 'piqa' is also test/piqa\.jsonl"):
        load_tasks(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"chat": 1}, "expected true or false for chat, found '1'"),
        ({"scoring": "letters"}, "expected letter or text for scoring"),
        ({"system": 3}, "expected text or null for system"),
        ({"template": "x"}, "unknown entry 'template'; known are chat, system, scoring"),
        ({"tasks": ["a"]}, "tasks: expected names with their settings, found list"),
        ({"tasks": {"a": {"lm_eval": {}}}}, "tasks.a: has the unknown entry 'lm_eval'"),
        ({"tasks": {"b": {"chat": True}}}, "tasks names 'b', expected the name of a file"),
        ({"lm_eval": {"tasks": "arc_easy"}}, "expected a list of task names"),
        ({"lm_eval": {"tasks": ["x", "x"]}}, "each once"),
        ({"lm_eval": {"tasks": ["x"], "split": "train"}}, "expected dev or test, found 'train'"),
        ({"lm_eval": {"tasks": ["x"], "limit": 0}}, "lm_eval.limit: expected a whole number from 1 on"),
        ({"lm_eval": {"tasks": ["x"], "num_fewshot": True}}, "lm_eval.num_fewshot: expected a whole number"),
        ({"lm_eval": {"tasks": ["x"], "chat": "yes"}}, "lm_eval.chat: expected true or false"),
        ({"lm_eval": {"tasks": ["x"], "include_path": "."}}, "unknown entry 'include_path'"),
    ],
)
def test_bad_descriptions_are_named(tmp_path: Path, content: Any, said: str) -> None:
    write(tmp_path / "dev" / "a.jsonl", [pair("p", "q")])
    describe(tmp_path, **content)
    with pytest.raises(InputError, match=r"probes\.json") as caught:
        load_tasks(tmp_path)
    assert said in str(caught.value)


def test_a_description_belongs_to_the_fingerprint(tmp_path: Path) -> None:
    write(tmp_path / "dev" / "a.jsonl", [pair("p", "q")])
    before = probes_fingerprint(tmp_path)
    describe(tmp_path, chat=False)
    assert probes_fingerprint(tmp_path) != before


def test_general_text_is_a_test_task_of_any_folder(tmp_path: Path) -> None:
    write(tmp_path / "dev" / "a.jsonl", [pair("p", "q")])
    plain = probes_fingerprint(tmp_path)
    describe(tmp_path, general_text=True)
    *own, general = load_tasks(tmp_path)
    assert [(task.name, task.split) for task in own] == [("a", "dev")]
    assert isinstance(general, TextTask)
    assert (general.name, general.split) == ("general text", "test")
    assert len(general) == len(set(general.texts)) == 24
    assert [task.name for task in load_split(tmp_path, "dev")] == ["a"]  # nothing is chosen on it
    described = probes_fingerprint(tmp_path)
    assert described != plain
    (tmp_path / "dev" / "a.jsonl").unlink()
    assert has_probe_files(tmp_path) == (True, False)
    assert load_tasks(tmp_path) == [general] == load_tasks(GENERAL)
    write(tmp_path / "test" / "general text.jsonl", [json.dumps({"text": "x"})])
    with pytest.raises(InputError, match="general_text adds the test task 'general text', which is there already"):
        load_tasks(tmp_path)
    describe(tmp_path, general_text="yes")
    with pytest.raises(InputError, match="expected true or false for general_text"):
        load_tasks(tmp_path)


def test_the_probes_that_ship_have_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert probe_folder("general") == GENERAL
    assert probe_folder("other") == Path("other")
    (tmp_path / "general").mkdir()
    assert probe_folder("general") == Path("general")
