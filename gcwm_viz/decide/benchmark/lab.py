"""The lab's updates of one seed, good and bad."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.decide.benchmark.bench import PoolBench
from gcwm_viz.decide.benchmark.pools import GOOD, NOISE, RESCALED, Variant, pools, shuffled_answers
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.library import Library, State
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.experiments.lab.train import CharacterCorpus, train_update
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.tasks import PromptTask
from gcwm_viz.studies.lab.bench import Bench
from gcwm_viz.studies.lab.where import LabModel
from gcwm_viz.updates.matrices import MatrixKey

FITTED = (0, 1, 2, 3, 4)
"""Seeds on which predictors are chosen and forecasts fitted."""
REPORTED = (5, 6, 7, 8)
"""Seeds that report alone: nothing was chosen on them."""


class LabPools(PoolBench):
    """Pools of one seed of the lab. ``folder`` stores trained states."""

    def __init__(self, seed: int, recipe: Recipe, folder: Path, report: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self._bench = Bench(seed, recipe, folder, report)
        self.tasks, self.pools = self._bench.tasks, pools(recipe.order, seed)
        # Fitted and reported seeds never share a base.
        group = FITTED if seed in FITTED else REPORTED if seed in REPORTED else (seed, seed + 1)
        self._other = Library(group[(group.index(seed) + 1) % len(group)], recipe, folder, report)

    @cached_property
    def model(self) -> LabModel:
        return LabModel(self._bench)

    @property
    def tokenizer(self) -> Any:
        return self._bench.tokenizer

    @property
    def keys(self) -> list[MatrixKey]:
        return self._bench.keys

    def weight(self, key: MatrixKey) -> Tensor:
        return self._bench.library.base()[key.name]

    def probes(self, split: str) -> list[PromptTask]:
        return self._bench.prompts(split)

    def update(self, variant: Variant) -> list[Update]:
        state = self._state(variant)
        return [state[key.name] for key in self.keys]

    def _state(self, variant: Variant) -> State:
        library, task = self._bench.library, variant.task
        if variant.kind == GOOD:
            return library.expert(task)
        if variant.kind == "other-base":
            return self._other.expert(task)
        if variant.kind == "rescaled":
            return {name: RESCALED * delta for name, delta in library.expert(task).items()}
        if variant.kind == "noise":
            generator, expert = seeded(library.seed, "noise", task), library.expert(task)
            # By name: a state that has just been trained has another order than the same one read from its file.
            return {name: _noisy(expert[name], generator) for name in sorted(expert)}
        return library.stored(f"pool-{variant.name}", partial(self._train, variant))

    def _train(self, variant: Variant) -> State:
        library, recipe = self._bench.library, self._bench.library.recipe
        settings = recipe.expert_settings(variant.data or variant.task)
        examples = library.tasks[variant.data or variant.task].train
        if variant.kind == "under-trained":
            settings = replace(settings, steps=max(settings.steps // 8, 1))
        elif variant.kind == "over-trained":
            settings = replace(settings, steps=3 * settings.steps, lr=3 * settings.lr)
        elif variant.kind == "shuffled":
            examples = shuffled_answers(examples, library.seed, variant.task)
        stream = seeded(library.seed, variant.kind, variant.task)
        return train_update(library.model, library.base(), CharacterCorpus(examples), settings, stream)


def _noisy(delta: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(delta.shape, generator=generator)
    noisy: Tensor = delta + NOISE * delta.norm() / noise.norm() * noise
    return noisy
