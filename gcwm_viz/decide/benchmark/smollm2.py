"""SmolLM2's adapters, and bad ones made from them: pools that report alone.

Over-trained ones are left out, which take longest to train. The tasks with trained bad updates are the three that train
fastest. Adapters are trained where they are missing, in OUT/trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.benchmark.bench import PoolBench
from gcwm_viz.decide.benchmark.pools import GOOD, KINDS, NOISE, RESCALED, Variant, pools, shuffled_answers
from gcwm_viz.experiments.draw import Draw, Example, seeded
from gcwm_viz.experiments.smollm2.build import STEPS
from gcwm_viz.experiments.smollm2.bundle import locate
from gcwm_viz.experiments.smollm2.train import LoraSettings, Trainer
from gcwm_viz.linalg.lowrank import LowRank, Update, difference, norm, scaled, stacked
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.tasks import PromptTask, load_tasks
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import create_run
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.sources import open_update

SMOLLM2_KINDS = tuple(kind for kind in KINDS if kind != "over-trained")
QUICK = ("country", "chemistry", "words")
TRAINED = ("under-trained", "shuffled", "wrong-name", "duplicate")


class SmolLM2Pools(PoolBench):
    """``base``: the base's checkpoint folder; ``folder``: where adapters are trained."""

    attributed = False  # a hundred attributions would take hours on a CPU
    plan_splits = ("test",)
    solo_splits = ("dev",)

    def __init__(self, base: Path, folder: Path, report: Callable[[str], None] | None = None, draw: int = 0) -> None:
        super().__init__()
        self._bundle = locate()
        self._path, self._base, self._folder = base, CheckpointIndex.open(base), folder
        self._report = report or (lambda _: None)
        self.tasks = tuple(self._bundle.updates)
        self.pools = pools(self.tasks, draw, SMOLLM2_KINDS, self._order, counts=(1,))
        self._updates: dict[str, list[Update]] = {}

    def _order(self, kind: str, draw: Draw) -> Sequence[str]:
        if kind in TRAINED:
            first, second, last = draw.shuffled(QUICK)
            return first, second, *(task for task in self.tasks if task not in QUICK), last
        if kind == "other-base":  # the first task of the sequence was trained from the base
            return *draw.shuffled(self.tasks[1:]), self.tasks[0]
        return draw.shuffled(self.tasks)

    @cached_property
    def _live(self) -> LiveModel:
        updates = [(task, Path(path)) for task, path in self._bundle.updates.items()]
        folder = self._folder / "keys"
        if not (folder / "run.json").is_file():
            create_run(Inputs(base=self._path, updates=updates, probes=self._bundle.probes), folder, RunSettings())
        return LiveModel(RunStore.open(folder), torch.device("cpu"), torch.float32)

    @property
    def model(self) -> MergedModel:
        return self._live.merged

    @property
    def tokenizer(self) -> Any:
        return self._live.tokenizer

    @property
    def keys(self) -> list[MatrixKey]:
        return self._live.store.keys

    def weight(self, key: MatrixKey) -> Tensor:
        return key.to_linear(read_tensor(self._base.tensors[key.name]).float())

    def probes(self, split: str) -> list[PromptTask]:
        tasks = load_tasks(self._bundle.probes)
        return [task for task in tasks if isinstance(task, PromptTask) and task.split == split]

    def update(self, variant: Variant) -> list[Update]:
        if variant.name not in self._updates:
            self._updates[variant.name] = self._make(variant)
        return self._updates[variant.name]

    def _make(self, variant: Variant) -> list[Update]:
        task = variant.task
        if variant.kind == "other-base":
            step = self.tasks.index(task) + 1
            before, after = (self._read(self._bundle.sft[each]) for each in (step - 1, step))
            return [difference(b, a) for a, b in zip(before, after, strict=True)]
        if variant.kind in TRAINED:
            return self._read(self._trained(variant))
        own = self._read(Path(self._bundle.updates[task]))
        if variant.kind == "rescaled":
            return [scaled(delta, RESCALED) for delta in own]
        if variant.kind == "noise":
            generator = seeded(0, "noise", task)
            return [_noisy(delta, generator) for delta in own]
        assert variant.kind == GOOD
        return own

    def _read(self, folder: Path) -> list[Update]:
        source = open_update(folder.name, folder, self._base)
        deltas = [source.delta(key) for key in self.keys]
        return [delta for delta in deltas if delta is not None]

    def _trained(self, variant: Variant) -> Path:
        out = self._folder / variant.name
        if not (out / "adapter_config.json").is_file():
            self._report(variant.name)
            data = variant.data or variant.task
            lines = (self._bundle.root / "train" / f"{data}.jsonl").read_text(encoding="utf-8").splitlines()
            examples: Sequence[Example] = [(row["prompt"], row["answer"]) for row in map(json.loads, lines)]
            steps = STEPS[data]
            if variant.kind == "under-trained":
                steps = steps // 8
            elif variant.kind == "shuffled":
                examples = shuffled_answers(examples, 0, data)
            settings = replace(LoraSettings(), steps=steps, warmup=min(LoraSettings().warmup, steps - 1))
            seed = seeded(0, variant.kind, variant.task).initial_seed()
            self._trainer.train(examples, settings, out, seed)
        return out

    @cached_property
    def _trainer(self) -> Trainer:
        return Trainer(self._path, torch.device("cpu"))


def _noisy(update: Update, generator: torch.Generator) -> Update:
    """Noise of the same rank, since noise of full rank would not be an adapter."""
    assert isinstance(update, LowRank)
    noise = LowRank(*(torch.randn(factor.shape, generator=generator) for factor in (update.left_or, update.right_ri)))
    return stacked([update.to(dtype=torch.float32), scaled(noise, NOISE * norm(update) / norm(noise))])  # type: ignore[list-item]
