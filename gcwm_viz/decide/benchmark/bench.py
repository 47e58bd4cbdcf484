"""What the benchmark measures of the updates of one model: predictors, and scores of plans."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.attribution.gradients import SettableModel
from gcwm_viz.attribution.path import StatePath, split_loss
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_state
from gcwm_viz.decide.benchmark.pools import LESS, Pool, Variant
from gcwm_viz.decide.measure import Effects
from gcwm_viz.linalg.lowrank import Update, scaled
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.tasks import PromptTask
from gcwm_viz.signals.interference import interference, over_matrices, pair_rows
from gcwm_viz.updates.matrices import MatrixKey

Rows = list[dict[str, Any]]
SPLITS = ("dev", "test")
ATTRIBUTION_NODES = 5
"""As few as an attribution has: a predictor, of which a ranking is asked."""


class PoolBench(ABC):
    """Pools of one model and one draw. ``attributed``: whether the attribution is measured, which takes longest;
    ``plan_splits`` and ``solo_splits``: on which plans, and updates alone, are scored; the base always on all."""

    pools: Sequence[Pool]
    tasks: Sequence[str]
    attributed: bool = True
    plan_splits: Sequence[str] = SPLITS
    solo_splits: Sequence[str] = SPLITS

    def __init__(self) -> None:
        self._scaled: dict[tuple[str, float], list[Update]] = {}

    @property
    @abstractmethod
    def model(self) -> SettableModel:
        """The base in memory."""

    @property
    @abstractmethod
    def tokenizer(self) -> Any: ...

    @property
    @abstractmethod
    def keys(self) -> Sequence[MatrixKey]:
        """Target matrices; the ``keys`` of the model."""

    @abstractmethod
    def weight(self, key: MatrixKey) -> Tensor:
        """The base's matrix (d_out, d_in)."""

    @abstractmethod
    def update(self, variant: Variant) -> list[Update]:
        """Δ of every target matrix; trained where it is missing."""

    @abstractmethod
    def probes(self, split: str) -> list[PromptTask]: ...

    @property
    def variants(self) -> list[Variant]:
        """The good update of every task, then every other one of a pool."""
        good = [Variant(task) for task in self.tasks]
        return list(dict.fromkeys([*good, *(variant for pool in self.pools for variant in pool.variants)]))

    def predictors(self) -> dict[str, Rows]:
        """Rows of the tables ``updates``, ``pairs`` and ``effects``; the probes are those of dev."""
        variants, model = self.variants, self.model
        names = [variant.name for variant in variants]
        deltas = [self.update(variant) for variant in variants]
        parts = [interference(self.weight(key), [own[k] for own in deltas]) for k, key in enumerate(self.keys)]
        of_updates, of_pairs = over_matrices(parts)
        nothing = [None] * len(self.keys)
        model.set_updates(nothing)
        measured = Effects(model, self.tokenizer, self.probes("dev"), deltas)
        updates: Rows = []
        effects: Rows = []
        at_expert = torch.zeros(len(variants), len(variants), dtype=torch.float64)
        for i, variant in enumerate(variants):
            by_task = measured.of(i)
            at_expert[i] = measured.at_present(variant.task)
            others = [values["kl_task"] for task, values in by_task.items() if task != variant.task]
            updates.append(
                {"update": variant.name, "task": variant.task, "kind": variant.kind}
                | {name: float(values[i]) for name, values in of_updates.items()}
                | {"kl": by_task[variant.task]["kl_task"], "kl_others": sum(others) / len(others)}
            )
            path = StatePath(model, nothing, deltas[i]) if self.attributed else None
            for task, values in by_task.items():
                harm = math.nan
                if path is not None:
                    split = split_loss(path, measured.losses[task], ATTRIBUTION_NODES)
                    harm = sum(max(value, 0.0) for value in split.values)
                effects.append({"update": variant.name, "task": task} | values | {"attributed": harm})
        pairs = pair_rows(names, {"first_order": at_expert} | of_pairs)
        return {"updates": updates, "pairs": pairs, "effects": effects}

    def solo(self) -> Rows:
        """Scores of the base and of every update alone, whole and with less."""
        rows = [{"update": "", "strength": 0.0} | row for row in self._scores([None] * len(self.keys))]
        for variant in self.variants:
            for strength in (LESS, 1.0):
                about = {"update": variant.name, "strength": strength}
                rows += [about | row for row in self._scores(self._at(variant, strength), self.solo_splits)]
        return rows

    def score(self, variants: Sequence[Variant], plan: Sequence[float], settings: RunSettings) -> Rows:
        """Scores {task, split, em, nll, n} of the state that a plan gives."""
        return self._scores(self.merge(variants, plan, settings), self.plan_splits)

    def merge(
        self, variants: Sequence[Variant], plan: Sequence[float], settings: RunSettings
    ) -> Sequence[Update | None]:
        """The state of a plan; updates in the pool's order, scaled before they are merged."""
        chosen = [(v, strength) for v, strength in zip(variants, plan, strict=True) if strength]
        if not chosen:
            return [None] * len(self.keys)
        names, deltas = [v.name for v, _ in chosen], [self._at(v, strength) for v, strength in chosen]
        return [final_state(key, names, [own[k] for own in deltas], settings) for k, key in enumerate(self.keys)]

    def _at(self, variant: Variant, strength: float) -> list[Update]:
        key = variant.name, strength
        if key not in self._scaled:
            update = self.update(variant)
            self._scaled[key] = update if strength == 1 else [scaled(delta, strength) for delta in update]
        return self._scaled[key]

    def _scores(self, state: Sequence[Update | None], splits: Sequence[str] = SPLITS) -> Rows:
        self.model.set_updates(state)
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for probe in (self._encoded[split] for split in splits):
            for row in probe.score(self.model.model, self.model.device):
                found.setdefault((row["task"], row["split"]), {"n": row["n"]})[row["metric"]] = row["value"]
        return [{"task": task, "split": split} | values for (task, split), values in found.items()]

    @cached_property
    def _encoded(self) -> dict[str, BehaviourProbe]:
        return {split: BehaviourProbe(self.tokenizer, self.probes(split)) for split in SPLITS}
