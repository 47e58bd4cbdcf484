"""What the sequential pipelines share: one training a task, from the state of the last, and a replay buffer.

The first step has no earlier task, so it is the first task's expert under every pipeline.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.library import Library, State
from gcwm_viz.experiments.lab.train import CharacterCorpus
from gcwm_viz.experiments.training import Hook

Hooks = Callable[[Sequence[str], Sequence[State]], Sequence[Hook]]
"""Hooks of the step that trains the last task of a prefix, given the states S_1 … S_{t−1} before it."""


def train_sequence(library: Library, name: str, settings: Any, order: Sequence[str], hooks: Hooks) -> list[State]:
    """S_1 … S_T of a pipeline that is Seq. SFT with hooks; stored by name, settings and the prefix of the order.

    Batches of a task are those of its expert, as in Seq. SFT.
    """
    key = json.dumps(asdict(settings), sort_keys=True)
    label = f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    states = [library.expert(order[0])]
    for t in range(2, len(order) + 1):

        def step(prefix: Sequence[str] = order[:t], before: Sequence[State] = tuple(states)) -> State:
            return library.train_step(prefix[-1], before[-1], hooks(prefix, before))

        states.append(library.stored("-".join([label, *order[:t]]), step))
    return states


class ReplayBuffer:
    """`per_task` training examples of every earlier task, each task drawn with the same probability.

    The examples depend on seed and task alone, the batches on seed and prefix.
    """

    def __init__(self, library: Library, prefix: Sequence[str], per_task: int) -> None:
        pools = []
        for task in prefix[:-1]:
            pool = library.tasks[task].train
            order = torch.randperm(len(pool), generator=seeded(library.seed, "memory", task)).tolist()
            pools.append((1.0, [pool[i] for i in order[:per_task]]))
        self.corpus = CharacterCorpus.mixture(pools)
        self.generator = seeded(library.seed, "replay", *prefix)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """(ids, labels) of `size` examples of earlier tasks."""
        return self.corpus.sample(size, self.generator)
