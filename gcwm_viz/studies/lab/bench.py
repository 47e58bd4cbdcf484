"""One seed of the lab: trained models, probes, and the description of a sequence of states."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_merges
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.experiments.lab.library import Library, State, apply
from gcwm_viz.experiments.lab.model import build_tokenizer, target_names
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.experiments.lab.train import CharacterCorpus
from gcwm_viz.experiments.training import answer_loss
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.tasks import PromptTask
from gcwm_viz.signals.gradients import gradient_conflict, gradient_cosines, task_gradients
from gcwm_viz.updates.matrices import MatrixKey, depth

Rows = list[dict[str, Any]]


class Bench:
    """Measurements of the study on one seed. `folder` stores the trained states."""

    def __init__(self, seed: int, recipe: Recipe, folder: Path, report: Callable[[str], None] | None = None) -> None:
        self.library = Library(seed, recipe, folder, report)

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        return self.library.recipe.order

    @cached_property
    def keys(self) -> list[MatrixKey]:
        """The target matrices in the model's order, which a base that was read from its file does not keep."""
        parameters = dict(self.library.model.named_parameters())
        return [
            MatrixKey(name, int(name.split(".")[2]), name.split(".")[-2], (own.shape[0], own.shape[1]))
            for name, own in ((name, parameters[name]) for name in target_names(parameters))
        ]

    def score(self, delta: State, splits: Sequence[str] = ("dev", "test")) -> Rows:
        """Rows {task, split, metric, value, se, n} of base + Δ."""
        apply(self.library.model, self.library.base(), delta)
        return [row for split in splits for row in self._probes[split].score(self.library.model)]

    def exact(self, delta: State, split: str) -> tuple[float, float]:
        """Mean exact match over tasks in [0, 1] and its standard error, tasks as independent."""
        rows = [row for row in self.score(delta, (split,)) if row["metric"] == "em"]
        errors = sum(row["se"] ** 2 for row in rows) ** 0.5
        return sum(row["value"] for row in rows) / len(rows), errors / len(rows)

    def gradients(self, delta: State, tasks: Sequence[str]) -> pd.DataFrame:
        """Per matrix: mean, least and negative share of the cosines of the tasks' gradients on their dev probes."""
        apply(self.library.model, self.library.base(), delta)
        losses = {task: partial(answer_loss, self.library.model, *self._batches[task]) for task in tasks}
        names = [key.name for key in self.keys]
        return gradient_conflict(gradient_cosines(task_gradients(self.library.model, losses, names), names))

    def describe(
        self, order: Sequence[str], settings: RunSettings, states: Sequence[State] | None = None
    ) -> tuple[Rows, list[State]]:
        """Rows of the table `matrices` over all steps, and S_1 … S_T: merged by `settings`, or `states`."""
        rows: Rows = []
        merged: list[State] = [{} for _ in order]
        for key in self.keys:
            deltas = [self.library.expert(task)[key.name] for task in order]
            trained = None if states is None else [state[key.name] for state in states]
            result = process_matrix(key, list(order), deltas, settings, trained, depth(self.keys))
            for step, row in enumerate(result.rows["matrices"], start=1):
                rows.append(row)
                if states is None:
                    merged[step - 1][key.name] = settings.continual.eta * _blend(result.tensors, step, row)
        return rows, merged if states is None else list(states)

    def final_merge(self, order: Sequence[str], settings: RunSettings) -> State:
        """Δ_merge,T with all updates active, without signals, for choosing η."""
        state: State = {}
        for key in self.keys:
            deltas = [self.library.expert(task)[key.name] for task in order]
            state[key.name] = dense(final_merges(key, order, deltas, settings, depth(self.keys))[len(order)])
        return state

    @cached_property
    def _probes(self) -> Mapping[str, BehaviourProbe]:
        return {split: BehaviourProbe(self.tokenizer, self.prompts(split)) for split in ("dev", "test")}

    @cached_property
    def tokenizer(self) -> Any:
        return build_tokenizer()

    def prompts(self, split: str) -> list[PromptTask]:
        """The probes of every task on one split."""
        lab = [self.library.tasks[name] for name in self.tasks]
        return [PromptTask(t.name, split, *map(tuple, zip(*getattr(t, split), strict=True))) for t in lab]

    @cached_property
    def losses(self) -> list[TaskLoss]:
        """The loss of every task on the test split."""
        return [TaskLoss(self.tokenizer, task) for task in self.prompts("test")]

    @cached_property
    def _batches(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        corpora = {name: CharacterCorpus(self.library.tasks[name].dev) for name in self.tasks}
        return {name: (corpus.ids, corpus.labels) for name, corpus in corpora.items()}


def _blend(tensors: Mapping[str, Tensor], step: int, row: Mapping[str, Any]) -> Tensor:
    if f"merged.{step}" in tensors:
        return tensors[f"merged.{step}"]
    plain, geo = tensors[f"plain.{step}"], tensors[f"geo.{step}"]
    share = {"blend": row["alpha"], "geo": 1.0}.get(row["mode"], 0.0)
    return torch.lerp(plain, geo, share)
