"""The lab's updates of one seed, good and bad, and what is measured of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.attribution.path import StatePath, split_loss
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.decide.benchmark.pools import LESS, Pool, Variant, pools
from gcwm_viz.decide.measure import FirstTokens, divergence, first_order
from gcwm_viz.experiments.draw import Draw, seeded
from gcwm_viz.experiments.lab.library import Library, State
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.experiments.lab.train import CharacterCorpus, train_update
from gcwm_viz.geometry.layer import LayerGeometry, layer_geometry
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.merging.registry import get_method
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.signals.interference import interference, over_matrices
from gcwm_viz.studies.lab.bench import Bench, Rows
from gcwm_viz.studies.lab.where import LabModel

NOISE = 1.5
"""Norm of the noise over that of the update, in every matrix."""
RESCALED = 3.0
FITTED = (0, 1, 2, 3, 4)
"""Seeds on which predictors are chosen and forecasts fitted."""
REPORTED = (5, 6, 7, 8)
"""Seeds that report alone: nothing was chosen on them."""
ATTRIBUTION_NODES = 5


class LabPools:
    """Updates, predictors and scores of one seed. ``folder`` stores trained states."""

    def __init__(self, seed: int, recipe: Recipe, folder: Path, report: Callable[[str], None] | None = None) -> None:
        self.bench = Bench(seed, recipe, folder, report)
        self.pools: list[Pool] = pools(recipe.order, seed)
        group = FITTED if seed in FITTED else REPORTED if seed in REPORTED else (seed, seed + 1)
        partner = group[(group.index(seed) + 1) % len(group)]
        self._partner = Library(partner, recipe, folder, report)
        self._scaled: dict[tuple[str, float], State] = {}
        self._present: LayerGeometry | None = None

    @property
    def variants(self) -> list[Variant]:
        """The good update of every task, then every other one of a pool."""
        good = [Variant(task) for task in self.bench.tasks]
        return list(dict.fromkeys([*good, *(v for pool in self.pools for v in pool.variants)]))

    def update(self, variant: Variant) -> State:
        """Δ of one update, trained where it is missing."""
        library, task = self.bench.library, variant.task
        if variant.kind == "good":
            return library.expert(task)
        if variant.kind == "other-base":
            return self._partner.expert(task)
        if variant.kind == "rescaled":
            return {name: RESCALED * delta for name, delta in library.expert(task).items()}
        if variant.kind == "noise":
            generator = seeded(library.seed, "noise", task)
            return {name: _noisy(delta, generator) for name, delta in library.expert(task).items()}
        return library.stored(f"pool-{variant.name}", partial(self._train, variant))

    def _train(self, variant: Variant) -> State:
        library, recipe = self.bench.library, self.bench.library.recipe
        settings = recipe.expert_settings(variant.task)
        examples = library.tasks[variant.data or variant.task].train
        if variant.kind == "under-trained":
            settings = replace(settings, steps=max(settings.steps // 8, 1))
        elif variant.kind == "over-trained":
            settings = replace(settings, steps=3 * settings.steps, lr=3 * settings.lr)
        elif variant.kind == "shuffled":
            answers = Draw(seeded(library.seed, "shuffled", variant.task)).shuffled([answer for _, answer in examples])
            examples = tuple((prompt, answer) for (prompt, _), answer in zip(examples, answers, strict=True))
        elif variant.kind == "wrong-name":
            settings = recipe.expert_settings(variant.data)
        stream = seeded(library.seed, variant.kind, variant.task)
        return train_update(library.model, library.base(), CharacterCorpus(examples), settings, stream)

    def merge(self, variants: Sequence[Variant], plan: Sequence[float], settings: RunSettings) -> State:
        """The state that a plan gives; its updates in the pool's order, scaled before the merge."""
        chosen = [(v, strength) for v, strength in zip(variants, plan, strict=True) if strength]
        if not chosen:
            return {}
        deltas = [self._at(v, strength) for v, strength in chosen]
        state: State = {}
        for key in self.bench.keys:
            own = [delta[key.name] for delta in deltas]
            merge = get_method(settings.method).merge(
                MergeStep(
                    deltas=own,
                    names=[v.name for v, _ in chosen],
                    weights=[1.0] * len(own),
                    geometry=self._geometry(own, settings),
                    previous=None,
                    arriving=own[-1],
                    norms=[float(delta.norm()) for delta in own],
                    matrix=key.name,
                    shape=key.shape,
                    config=settings.gcwm,
                    settings=settings.options,
                    carried={},
                )
            )
            state[key.name] = settings.continual.eta * dense(merge.merged).float()
        return state

    def _geometry(self, deltas: Sequence[Tensor], settings: RunSettings) -> LayerGeometry:
        """Of a method without a gate only which updates are present matters: here all are."""
        if get_method(settings.method).conflict_gate:
            return layer_geometry(deltas, None, settings.gcwm)
        if self._present is None:
            self._present = layer_geometry(deltas[:1], None, replace(settings.gcwm, metric="mean"))
        return replace(self._present, present=tuple(range(len(deltas))))

    def _at(self, variant: Variant, strength: float) -> State:
        key = variant.name, strength
        if key not in self._scaled:
            update = self.update(variant)
            self._scaled[key] = update if strength == 1 else {n: strength * d for n, d in update.items()}
        return self._scaled[key]

    def predictors(self) -> dict[str, Rows]:
        """Rows of the tables ``updates``, ``pairs`` and ``effects`` of this seed; probes are those of dev."""
        bench, variants = self.bench, self.variants
        names = [variant.name for variant in variants]
        states = [self.update(variant) for variant in variants]
        base = bench.library.base()
        parts = [interference(base[key.name], [state[key.name] for state in states]) for key in bench.keys]
        of_updates, of_pairs = over_matrices(parts)
        model = LabModel(bench)
        deltas = [[state[key.name] for key in bench.keys] for state in states]
        dev = {task.name: task for task in bench.prompts("dev")}
        losses = {name: TaskLoss(bench.tokenizer, task) for name, task in dev.items()}
        tokens = {name: FirstTokens(bench.tokenizer, task) for name, task in dev.items()}
        nothing = [None] * len(bench.keys)
        model.set_updates(nothing)
        at_base = {task: first_order(model, loss, deltas) for task, loss in losses.items()}
        before = {task: each.of(model.model, model.device) for task, each in tokens.items()}
        effects: Rows = []
        at_expert = torch.zeros(len(variants), len(variants), dtype=torch.float64)
        updates: Rows = []
        for i, variant in enumerate(variants):
            model.set_updates(deltas[i])
            at_expert[i] = first_order(model, losses[variant.task], deltas)
            changed = {t: divergence(before[t], each.of(model.model, model.device)) for t, each in tokens.items()}
            updates.append(
                {"update": variant.name, "task": variant.task, "kind": variant.kind}
                | {name: float(values[i]) for name, values in of_updates.items()}
                | {"kl": changed[variant.task]}
                | {"kl_others": sum(v for t, v in changed.items() if t != variant.task) / (len(changed) - 1)}
            )
            path = StatePath(model, nothing, deltas[i])
            for task, loss in losses.items():
                split = split_loss(path, loss, ATTRIBUTION_NODES)
                attributed = sum(max(value, 0.0) for value in split.values)
                values = {"first_order_base": float(at_base[task][i]), "attributed": attributed}
                effects.append({"update": variant.name, "task": task, "kl_task": changed[task]} | values)
        pairs = [
            {"i": names[i], "j": names[j], "first_order": float(at_expert[i, j])}
            | {name: float(table[i, j]) for name, table in of_pairs.items()}
            for i in range(len(names))
            for j in range(len(names))
            if i != j
        ]
        return {"updates": updates, "pairs": pairs, "effects": effects}

    def solo(self) -> Rows:
        """Scores of the base and of every update alone, whole and with less."""
        rows = [{"update": "", "strength": 0.0} | row for row in self._score({})]
        for variant in self.variants:
            for strength in (LESS, 1.0):
                about = {"update": variant.name, "strength": strength}
                rows += [about | row for row in self._score(self._at(variant, strength))]
        return rows

    def score(self, variants: Sequence[Variant], plan: Sequence[float], settings: RunSettings) -> Rows:
        return self._score(self.merge(variants, plan, settings))

    def _score(self, state: State) -> Rows:
        """Rows {task, split, em, nll, n}."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for row in self.bench.score(state):
            found.setdefault((row["task"], row["split"]), {"n": row["n"]})[row["metric"]] = row["value"]
        return [{"task": task, "split": split} | values for (task, split), values in found.items()]


def _noisy(delta: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(delta.shape, generator=generator)
    return delta + NOISE * delta.norm() / noise.norm() * noise
