"""What the sequential pipelines share: one training per task from where the last one ended, and a memory of old tasks.

The first step has nothing to protect, so it is the first task's expert under every pipeline.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.experiments.lab.library import Library, State, add
from gcwm_viz.experiments.lab.recipe import seeded
from gcwm_viz.experiments.lab.train import Corpus, Hook, train

Hooks = Callable[[Sequence[str], Sequence[State]], Sequence[Hook]]
"""Hooks of the step that trains the last task of a prefix, given the states S_1 … S_{t−1} before it."""


def train_sequence(library: Library, label: str, order: Sequence[str], hooks: Hooks) -> list[State]:
    """S_1 … S_T of a pipeline that is Seq. SFT with hooks; kept by `label` and the prefix of the order.

    Batches of a task are those of its expert, as in Seq. SFT.
    """
    states = [library.expert(order[0])]
    for t in range(2, len(order) + 1):
        prefix, before = list(order[:t]), list(states)

        def step(prefix: list[str] = prefix, before: list[State] = before) -> State:
            task = prefix[-1]
            chosen = hooks(prefix, before)
            result = train(
                library.model,
                add(library.base(), before[-1]),
                library.corpus(task),
                library.recipe.expert_settings(task),
                library.stream(task),
                hooks=chosen,
            )
            return {name: before[-1][name] + delta for name, delta in result.delta.items()}

        states.append(library.keep(f"{label}-{'-'.join(prefix)}", step))
    return states


def label_of(name: str, settings: Any) -> str:
    """Name of a pipeline in the cache: other settings, another name."""
    key = json.dumps(asdict(settings), sort_keys=True)
    return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


class Memory:
    """A few training examples of every earlier task, drawn with equal odds per task.

    The examples depend on seed and task alone; the batches on seed and prefix.
    """

    def __init__(self, library: Library, prefix: Sequence[str], per_task: int) -> None:
        parts = []
        for task in prefix[:-1]:
            pool = library.tasks[task].train
            order = torch.randperm(len(pool), generator=seeded(library.seed, "memory", task)).tolist()
            parts.append((1.0, [pool[i] for i in order[:per_task]]))
        self.corpus = Corpus.mixture(parts)
        self.generator = seeded(library.seed, "replay", *prefix)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """(ids, labels) of `size` remembered examples."""
        return self.corpus.sample(size, self.generator)
