"""Pools of updates in which choosing matters, and the plans that are scored for each.

A pool has five updates. A plan gives each a strength: 0 (left out), :data:`LESS` or 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from gcwm_viz.decide.knowledge import STRENGTHS
from gcwm_viz.experiments.draw import Draw, Example, seeded

KINDS = ("under-trained", "over-trained", "shuffled", "wrong-name", "duplicate", "noise", "rescaled", "other-base")
"""What can be wrong with an update."""
GOOD = "good"
MIXED = "mixed"
REGIMES = (GOOD, *KINDS, MIXED)
SIZE = 5
LESS = STRENGTHS[0]
"""The strength of an update that is integrated with less."""
NOISE = 1.5
"""Norm of the noise over that of the update, in every matrix."""
RESCALED = 3.0
"""Factor of a rescaled update."""


@dataclass(frozen=True, order=True)
class Variant:
    """An update. ``task``: the one it claims; ``kind``: what is wrong with it, or good; ``data``: the task whose
    examples trained it."""

    task: str
    kind: str = GOOD
    data: str = ""

    @property
    def name(self) -> str:
        return self.task if self.kind == GOOD else f"{self.task}~{self.kind}" + (f"~{self.data}" if self.data else "")


@dataclass(frozen=True)
class Pool:
    """``regime``: the kind of its bad updates, ``good`` without any, ``mixed`` for three kinds."""

    name: str
    regime: str
    variants: tuple[Variant, ...]


Plan = tuple[float, ...]
"""The strength of every update of a pool, in its order."""


Order = Callable[[str, Draw], Sequence[str]]


def pools(
    tasks: Sequence[str],
    seed: int,
    kinds: Sequence[str] = KINDS,
    order_of: Order | None = None,
    counts: Sequence[int] = (1, 2),
) -> list[Pool]:
    """The pools of one seed: of good updates, of every kind with one bad update and with two, and mixed ones.

    ``tasks``: at least :data:`SIZE`. ``order_of``: a kind's tasks, of which the first two get bad updates; by default
    in an order drawn from ``seed``. ``counts``: which of the two.
    """
    draw = Draw(seeded(seed, "pools"))
    chosen = {frozenset(own): own for own in (draw.shuffled(tasks)[:SIZE] for _ in counts)}
    found = [
        Pool(f"{GOOD}-{count}", GOOD, tuple(map(Variant, own))) for count, own in enumerate(chosen.values(), start=1)
    ]
    bad: dict[str, tuple[Variant, ...]] = {}
    for kind in kinds:
        order = draw.shuffled(tasks) if order_of is None else order_of(kind, draw)
        data = order[SIZE - 1] if kind == "wrong-name" else ""
        bad[kind] = tuple(Variant(task, kind, data) for task in order[:2])
        found += [Pool(f"{kind}-{n}", kind, _members(bad[kind][:n], order, kind)) for n in counts]
    for count in counts:
        own = [bad[kind][count - 1] for kind in draw.shuffled(kinds)[:3]]
        others = [task for task in draw.shuffled(tasks) if task not in {variant.task for variant in own}]
        found.append(Pool(f"{MIXED}-{count}", MIXED, (*own, *map(Variant, others[: SIZE - 3]))))
    return found


def _members(bad: tuple[Variant, ...], order: Sequence[str], kind: str) -> tuple[Variant, ...]:
    """A bad update stands in place of the good one of its task; a duplicate beside it."""
    if kind == "duplicate":
        return (*bad, *(Variant(task) for task in order[: SIZE - len(bad)]))
    return (*bad, *(Variant(task) for task in order[len(bad) : SIZE]))


def subsets(size: int) -> list[Plan]:
    """All plans without a strength in between."""
    return [tuple(map(float, bits)) for bits in product((0, 1), repeat=size)]


def with_less(size: int) -> list[Plan]:
    """Everything whole but one update."""
    return [tuple(LESS if k == index else 1.0 for k in range(size)) for index in range(size)]


def lessened(plans: Sequence[Plan]) -> list[Plan]:
    """The same choices with less of everything: another strength of the merge."""
    return [tuple(LESS * strength for strength in plan) for plan in plans]


def leave_one_out(size: int) -> list[Plan]:
    """Everything, and everything but one update."""
    return [(1.0,) * size, *(tuple(float(k != index) for k in range(size)) for index in range(size))]


def key_of(variants: Sequence[Variant], plan: Plan) -> str:
    """A plan as text that does not depend on the pool, so that pools share what was measured."""
    parts = [f"{v.name}:{strength:.3g}" for v, strength in zip(variants, plan, strict=True) if strength]
    return ",".join(sorted(parts))


def shuffled_answers(examples: Sequence[Example], seed: int, task: str) -> tuple[Example, ...]:
    """The prompts with each other's answers."""
    answers = Draw(seeded(seed, "shuffled", task)).shuffled([answer for _, answer in examples])
    return tuple((prompt, answer) for (prompt, _), answer in zip(examples, answers, strict=True))
