"""Joint training (multi-task learning) on the lab: the upper bound of every pipeline that sees data.

S_t is a model trained from the base on the first t tasks at once, each with the same share of a batch, for as many
steps as their experts took together: retraining on all data seen so far. It depends on the set of tasks, not on their
order, so orders share states, and S_T is the same for all.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.data import TASKS
from gcwm_viz.experiments.lab.library import Library, State
from gcwm_viz.experiments.lab.train import CharacterCorpus, train_update


def joint(library: Library, order: Sequence[str]) -> list[State]:
    """S_1 … S_T of joint training over the prefixes of `order`; S_1 is the first task's expert."""
    states = [library.expert(order[0])]
    for t in range(2, len(order) + 1):
        tasks = [task for task in TASKS if task in order[:t]]
        states.append(library.stored("joint-" + "-".join(tasks), partial(_train, library, tasks)))
    return states


def _train(library: Library, tasks: Sequence[str]) -> State:
    steps = sum(library.recipe.expert_settings(task).steps for task in tasks)
    corpus = CharacterCorpus.mixture([(1.0, library.tasks[task].train) for task in tasks])
    stream = seeded(library.seed, "joint", *tasks)
    settings = replace(library.recipe.expert, steps=steps)
    return train_update(library.model, library.base(), corpus, settings, stream)
