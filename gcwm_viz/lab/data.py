"""Tasks of the lab: six small skills and fact tables, each with a training pool and disjoint probes.

Every example is a pair (prompt, answer) of printable ASCII; a prompt ends with "=". All choices are drawn from one
seeded torch.Generator. Fact tasks are trained on all their facts, and the facts are split between the development and
the test probes; the other tasks hold their probes out of the training pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from gcwm_viz.lab import facts

Example = tuple[str, str]
T = TypeVar("T")

TASKS = ("past", "capital", "index", "symbol", "close", "eval")
POOL_SIZE = 4000
DEV_PROBES = 60
TEST_PROBES = 120
LABELLED_TEXTS = 240
OPENERS = "([{<"
CLOSERS = ")]}>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
DIGITS = "0123456789"


@dataclass(frozen=True, kw_only=True)
class LabTask:
    """One task: what an expert trains on and what it is probed with (`dev` and `test` share no example)."""

    name: str
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]


class Draw:
    """The few random choices that the generators need, all from one torch.Generator.

    Uniform numbers are fetched in blocks: one call of torch for every character would take a second a task.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self._block: list[float] = []

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both included."""
        if not self._block:
            self._block = torch.rand(1 << 14, generator=self.generator, dtype=torch.float64).tolist()
        return low + int(self._block.pop() * (high - low + 1))

    def choice(self, items: Sequence[T]) -> T:
        return items[self.integer(0, len(items) - 1)]

    def text(self, alphabet: str, low: int, high: int) -> str:
        """A string of low to high characters of `alphabet`, repetition allowed."""
        return "".join(self.choice(alphabet) for _ in range(self.integer(low, high)))

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [items[i] for i in torch.randperm(len(items), generator=self.generator).tolist()]


def index_example(draw: Draw) -> Example:
    """`'914k'[2]=` → `4`"""
    text = draw.text(DIGITS + LETTERS, 3, 6)
    position = draw.integer(0, len(text) - 1)
    return f"'{text}'[{position}]=", text[position]


def close_example(draw: Draw, longest: int = 10) -> Example:
    """`close ([]{=` → `})`: the brackets that close what is still open, the last one first."""
    opened: list[str] = []
    text = ""
    for _ in range(draw.integer(2, longest)):
        if opened and draw.integer(0, 2) == 0:
            text += CLOSERS[OPENERS.index(opened.pop())]
        else:
            opened.append(draw.choice(OPENERS))
            text += opened[-1]
    if not opened:
        opened.append(draw.choice(OPENERS))
        text += opened[-1]
    return f"close {text}=", "".join(CLOSERS[OPENERS.index(c)] for c in reversed(opened))


def eval_example(draw: Draw, largest: int = 99) -> Example:
    """`max(31,7)=` → `31`, `min(...)`, `mod(17,5)=` → `2`."""
    operator = draw.choice(("max", "min", "mod"))
    left = draw.integer(0, largest)
    right = draw.choice((2, 5, 10)) if operator == "mod" else draw.integer(0, largest)
    value = left % right if operator == "mod" else max(left, right) if operator == "max" else min(left, right)
    return f"{operator}({left},{right})=", str(value)


def reverse_example(draw: Draw) -> Example:
    text = draw.text(LETTERS, 3, 6)
    return f"rev {text}=", text[::-1]


def copy_example(draw: Draw) -> Example:
    text = draw.text(LETTERS + DIGITS, 3, 8)
    return f"copy {text}=", text


def addition_example(draw: Draw) -> Example:
    left, right = draw.integer(0, 9), draw.integer(0, 9)
    return f"{left}+{right}=", str(left + right)


def invented_name(draw: Draw) -> str:
    """A pronounceable word that stands in for a name."""
    return "".join(draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(draw.integer(2, 4)))


def invented_capital(draw: Draw) -> Example:
    return f"capital {invented_name(draw).capitalize()}=", invented_name(draw).capitalize()


def invented_symbol(draw: Draw) -> Example:
    return f"symbol {invented_name(draw)}=", draw.text(LETTERS, 1, 2).capitalize()


def distinct(make: Callable[[Draw], Example], draw: Draw, count: int) -> list[Example]:
    """`count` examples with different prompts, or fewer where the generator has no more to give."""
    seen: dict[str, str] = {}
    for _ in range(20 * count):
        prompt, answer = make(draw)
        seen.setdefault(prompt, answer)
        if len(seen) == count:
            break
    return list(seen.items())


def held_out_task(name: str, examples: Sequence[Example], draw: Draw) -> LabTask:
    """A skill: its probes are examples that no expert trains on."""
    order = draw.shuffled(examples)
    dev, test = tuple(order[:DEV_PROBES]), tuple(order[DEV_PROBES : DEV_PROBES + TEST_PROBES])
    return LabTask(name=name, train=tuple(order[DEV_PROBES + TEST_PROBES :]), dev=dev, test=test)


def fact_task(name: str, examples: Sequence[Example], draw: Draw) -> LabTask:
    """A table of facts: all are trained, a third are development probes and the others test probes."""
    order = draw.shuffled(examples)
    third = len(order) // 3
    return LabTask(name=name, train=tuple(examples), dev=tuple(order[:third]), test=tuple(order[third:]))


def build_tasks(generator: torch.Generator, *, capitals: int, symbols: int) -> dict[str, LabTask]:
    """The six tasks by name. Needs the packages of the `lab` extra."""
    draw = Draw(generator)
    verbs = draw.shuffled(facts.verb_forms())[:POOL_SIZE]
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
    """What the base can be trained on: the skills' training pools, easier forms, other skills, invented facts.

    No pool holds a probe of any task, and none a fact of the fact tasks.
    """
    draw = Draw(generator)
    probes = {prompt for task in tasks.values() for prompt, _ in (*task.dev, *task.test)}
    forms = facts.verb_forms()
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
    """(text, label) sets for linear probes, balanced by construction; each asks for more than a bag of characters.

    bracket: which bracket must close first; larger: whether the left or the right number is larger; pointed: whether
    the character that an index points at is a digit or a letter.
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

    def pointed(d: Draw) -> Example:
        text, answer = index_example(d)
        return text, "digit" if answer.isdigit() else "letter"

    sets = {}
    for name, make, classes in (("bracket", bracket, 4), ("larger", larger, 2), ("pointed", pointed, 2)):
        rows = draw.shuffled(distinct(make, draw, 4 * LABELLED_TEXTS))
        kept: list[Example] = []
        for label in sorted({label for _, label in rows}):
            kept += [row for row in rows if row[1] == label][: LABELLED_TEXTS // classes]
        sets[name] = draw.shuffled(kept)
    return sets
