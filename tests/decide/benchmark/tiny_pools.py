"""Pools of the tiny lab: six rotations of an alphabet, three kinds of bad updates, five pools of one seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from gcwm_viz.decide.benchmark import pools as pools_module
from gcwm_viz.experiments.lab.data import TASKS as NAMES
from gcwm_viz.experiments.lab.data import LabTask
from tests.experiments.lab.tiny_lab import TINY, TinyLibrary, rotation

RECIPE = replace(TINY, order=NAMES, expert=replace(TINY.expert, steps=32))
KINDS = ("shuffled", "duplicate", "other-base")
TASKS = {name: rotation(name, letter, k + 1) for k, (name, letter) in enumerate(zip(NAMES, "pkisce", strict=True))}


class SixTasks(TinyLibrary):
    @property
    def tasks(self) -> dict[str, LabTask]:
        return TASKS


@contextmanager
def tiny_pools(kinds: tuple[str, ...] = KINDS) -> Iterator[None]:
    """The lab's pools are of the tiny lab, one a kind."""
    few = partial(pools_module.pools, kinds=kinds, counts=(1,))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("studies.lab.bench", "decide.benchmark.lab"):
            patch.setattr(f"gcwm_viz.{module}.Library", SixTasks)
        patch.setattr("gcwm_viz.decide.benchmark.lab.pools", few)
        yield
