"""Trained lab models by seed: base, experts and Seq. SFT prefixes, each trained once and stored in a folder.

A Seq. SFT state is stored by the prefix of its task order, so orders with a common prefix share its states. The state
after a prefix of one task is that task's expert.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.data import LabTask, base_pools, build_tasks
from gcwm_viz.experiments.lab.model import copy_state, load_state, new_model, round_state
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.experiments.lab.train import CharacterCorpus, train_update
from gcwm_viz.experiments.training import Hook, train

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

State = dict[str, Tensor]
Report = Callable[[str], None]


class Library:
    """Trains on demand. `folder` stores the results; None leaves them in memory only.

    States are float32. The base is rounded to float16 first and everything is trained from the rounded base, so an
    update is exact relative to a float16 base file.
    """

    def __init__(
        self, seed: int, recipe: Recipe | None = None, folder: Path | None = None, report: Report | None = None
    ) -> None:
        self.seed = seed
        self.recipe = Recipe() if recipe is None else recipe
        self.folder = folder
        self._report = report
        self._states: dict[str, State] = {}

    @cached_property
    def tasks(self) -> dict[str, LabTask]:
        return build_tasks(
            seeded(self.recipe.data_seed, "tasks"), capitals=self.recipe.capitals, symbols=self.recipe.symbols
        )

    @cached_property
    def model(self) -> Qwen3ForCausalLM:
        """The model that all trainings use; drawn from the seed until the first one loads a state."""
        return new_model(self.recipe.shape, seeded(self.seed, "model"))

    def base(self) -> State:
        """All parameters of the base, float16 values in float32."""
        return self.stored("base", self._train_base)

    def expert(self, task: str) -> State:
        """Δ of one task's expert: trained from the base, target matrices only."""
        return self.sequence([task])[0]

    def sequence(self, order: Sequence[str]) -> list[State]:
        """Seq. SFT over `order`: S_t = θ_t − θ_pre for t = 1 … len(order)."""
        for task in order:
            if task not in self.tasks:
                raise InputError(f"lab: expected a task among {', '.join(self.tasks)}, found {task!r}")
        self.base()
        states: list[State] = []
        for t in range(1, len(order) + 1):
            step = partial(self.train_step, order[t - 1], states[-1] if states else {})
            states.append(self.stored("sft-" + "-".join(order[:t]), step))
        return states

    def train_step(self, task: str, before: State, hooks: Sequence[Hook] = ()) -> State:
        """S_t: `before` = S_{t−1} (empty at the first step) and the update of training `task` from there."""
        start, settings = add(self.base(), before), self.recipe.expert_settings(task)
        update = train_update(self.model, start, self.corpus(task), settings, self.stream(task), hooks=hooks)
        return {name: before[name] + delta if before else delta for name, delta in update.items()}

    def corpus(self, task: str) -> CharacterCorpus:
        """Training data of one task."""
        return CharacterCorpus(self.tasks[task].train)

    def stream(self, task: str) -> torch.Generator:
        """The generator of one task's batches, the same in every order."""
        return seeded(self.seed, "task", task)

    def _train_base(self) -> State:
        recipe = self.recipe
        pools = base_pools(self.tasks, seeded(recipe.data_seed, "base-pools"), invented=recipe.invented)
        corpus = CharacterCorpus.mixture(
            [(share, pools[name]) for name, share in recipe.base_shares.items() if share > 0]
        )
        model = new_model(recipe.shape, seeded(self.seed, "model"))
        train(model, dict(model.named_parameters()), corpus, recipe.base, seeded(self.seed, "base"))
        return round_state(copy_state(model))

    def stored(self, name: str, make: Callable[[], State]) -> State:
        """The state `name`, computed by `make` and stored where it is missing. File names contain recipe and seed;
        everything else that determines the result must be in `name`."""
        if name not in self._states:
            path = None if self.folder is None else self.folder / self._file(name)
            if path is not None and path.exists():
                self._states[name] = load_file(path)
            else:
                if self._report is not None:
                    self._report(name)
                self._states[name] = make()
                if path is not None:
                    _save(path, self._states[name])
        return self._states[name]

    def _file(self, name: str) -> str:
        """A file name with a digest of recipe, seed and version, so that a changed recipe uses no old file."""
        settings = {k: v for k, v in self.recipe.to_json().items() if k != "order"}
        key = json.dumps([settings, self.seed, torch.__version__], sort_keys=True)
        return f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"


def add(base: State, delta: State) -> State:
    """θ_pre + Δ; parameters without an update are the base's own tensors."""
    return {name: value + delta[name] if name in delta else value for name, value in base.items()}


def apply(model: torch.nn.Module, base: State, delta: State) -> None:
    """Load θ_pre + Δ into `model`."""
    load_state(model, add(base, delta))


def _save(path: Path, state: State) -> None:
    """Write `state` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, partial_file)
    os.replace(partial_file, path)
