"""Which development probes are fitted and which are held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from gcwm_viz.experiments.draw import seeded
from gcwm_viz.probes.loss import LossTask
from gcwm_viz.probes.tasks import chosen

LEAST = 2
"""Fewer probes of a task are not held out: one of four stopped a fit of the lab after its first pass."""


@dataclass(frozen=True)
class Sample:
    """Tasks with their probes for the fit, and those with probes held out."""

    fitted: list[LossTask] = field(default_factory=list)
    held_out: list[LossTask] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Probes by task: fitted and held out."""
        held = {task.name: len(task) for task in self.held_out}
        return {task.name: {"fitted": len(task), "held_out": held.get(task.name, 0)} for task in self.fitted}


def draw(tasks: Sequence[LossTask], share: float, most: int | None, seed: int) -> Sample:
    """A sample of ``tasks``, each drawn by the seed and its name alone.

    ``most``: probes of a task that are used at all; more of them contain fewer. ``share``: of these, held out,
    rounded; none where that is fewer than :data:`LEAST`.
    """
    sample = Sample()
    for task in tasks:
        order = order_of(task, seed)[:most]
        held = round(share * len(order))
        held = held if held >= LEAST else 0
        sample.fitted.append(chosen(task, sorted(order[held:])))
        if held:
            sample.held_out.append(chosen(task, sorted(order[:held])))
    return sample


def order_of(task: LossTask, seed: int) -> list[int]:
    """Its examples, from 0, in the order in which they are drawn."""
    order: list[int] = torch.randperm(len(task), generator=seeded(seed, "calibration", task.name)).tolist()
    return order
