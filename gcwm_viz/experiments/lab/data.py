"""Tasks of the lab: six small skills and fact tables, each with a training pool and disjoint probes.

Every example is a pair (prompt, answer) of printable ASCII; a prompt ends with "=". All choices are drawn from one
seeded torch.Generator. Fact tasks are trained on all their facts, and the facts are split between the development and
the test probes; the probes of the other tasks are held out of the training pool.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gcwm_viz.experiments.draw import Draw, Example, distinct
from gcwm_viz.experiments.lab import facts
from gcwm_viz.experiments.lab.examples import (
    addition_example,
    close_example,
    copy_example,
    eval_example,
    index_example,
    invented_capital,
    invented_symbol,
    reverse_example,
)
from gcwm_viz.experiments.lexicon import verb_forms

TASKS = ("past", "capital", "index", "symbol", "close", "eval")
POOL_SIZE = 4000
DEV_PROBES = 60
TEST_PROBES = 120
LABELLED_TEXTS = 240


@dataclass(frozen=True, kw_only=True)
class LabTask:
    """One task: training pool and probes of an expert (`dev` and `test` share no example)."""

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]


def held_out_task(name: str, examples: Sequence[Example], draw: Draw) -> LabTask:
    """A skill: its probes are examples that no expert trains on."""
    order = draw.shuffled(examples)
    dev, test = tuple(order[:DEV_PROBES]), tuple(order[DEV_PROBES : DEV_PROBES + TEST_PROBES])
    return LabTask(name=name, train=tuple(order[DEV_PROBES + TEST_PROBES :]), dev=dev, test=test)


def fact_task(name: str, examples: Sequence[Example], draw: Draw) -> LabTask:
    """A table of facts: all are trained; a third are development probes, the others test probes."""
    order = draw.shuffled(examples)
    third = len(order) // 3
    return LabTask(name=name, train=tuple(examples), dev=tuple(order[:third]), test=tuple(order[third:]))


def build_tasks(generator: torch.Generator, *, capitals: int, symbols: int) -> dict[str, LabTask]:
    """The six tasks by name. Needs the packages of the `lab` extra."""
    draw = Draw(generator)
    verbs = draw.shuffled(verb_forms())[:POOL_SIZE]
    capital = [(f"capital {country}=", city) for country, city in facts.capitals(capitals)]
    symbol = [(f"symbol {name}=", sign) for name, sign in facts.symbols(symbols)]
    tasks = (
        held_out_task("past", [(f"past {lemma}=", past) for lemma, past, _, _ in verbs], draw),
        fact_task("capital", capital, draw),
        held_out_task("index", distinct(index_example, draw, POOL_SIZE), draw),
        fact_task("symbol", symbol, draw),
        held_out_task("close", distinct(close_example, draw, POOL_SIZE), draw),
        held_out_task("eval", distinct(eval_example, draw, POOL_SIZE), draw),
    )
    return {task.name: task for task in tasks}


def base_pools(tasks: dict[str, LabTask], generator: torch.Generator, *, invented: int) -> dict[str, list[Example]]:
    """Training pools of the base: those of the skills, easier forms, other skills, invented facts.

    No pool contains a probe of any task or a fact of the fact tasks.
    """
    draw = Draw(generator)
    probes = {prompt for task in tasks.values() for prompt, _ in (*task.dev, *task.test)}
    forms = verb_forms()
    pools = {
        "past": list(tasks["past"].train),
        "progressive": [(f"ing {lemma}=", word) for lemma, _, word, _ in forms],
        "third": [(f"s {lemma}=", word) for lemma, _, _, word in forms],
        "capital": distinct(invented_capital, draw, invented),
        "symbol": distinct(invented_symbol, draw, invented),
        "index": list(tasks["index"].train),
        "close": list(tasks["close"].train),
        "close-short": distinct(lambda d: close_example(d, longest=3), draw, POOL_SIZE // 20),
        "eval": list(tasks["eval"].train),
        "eval-digits": distinct(lambda d: eval_example(d, largest=9), draw, POOL_SIZE // 20),
        "reverse": distinct(reverse_example, draw, POOL_SIZE),
        "copy": distinct(copy_example, draw, POOL_SIZE),
        "addition": distinct(addition_example, draw, 100),
    }
    return {name: [e for e in pool if e[0] not in probes] for name, pool in pools.items()}


def labelled_sets(generator: torch.Generator) -> dict[str, list[tuple[str, str]]]:
    """(text, label) sets for linear probes, balanced by construction; a bag of characters does not determine the label.

    bracket: which bracket must close first; larger: whether the left or the right number is larger.
    """
    draw = Draw(generator)

    def larger(d: Draw) -> Example:
        text, _ = eval_example(d)
        while text.startswith("mod"):
            text, _ = eval_example(d)
        left, right = (int(n) for n in text[4:-2].split(","))
        return text, "left" if left > right else "right"

    def bracket(d: Draw) -> Example:
        text, answer = close_example(d)
        return text, answer[0]

    sets = {}
    for name, make, classes in (("bracket", bracket, 4), ("larger", larger, 2)):
        rows = draw.shuffled(distinct(make, draw, 4 * LABELLED_TEXTS))
        balanced: list[Example] = []
        for label in sorted({label for _, label in rows}):
            balanced += [row for row in rows if row[1] == label][: LABELLED_TEXTS // classes]
        sets[name] = draw.shuffled(balanced)
    return sets
