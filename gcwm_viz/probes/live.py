"""A run's model kept in memory and set to one of its states after another, for answers within seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.store import RunStore
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.stored import Checkpoint
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update


class LiveModel:
    """The base of a run in memory, once; its target matrices are set to those of a state.

    Not safe to use from two threads at a time.
    """

    def __init__(self, store: RunStore, device: torch.device) -> None:
        """Raises :class:`~gcwm_viz.errors.InputError` for a base that transformers cannot load completely, and for
        inputs that are no longer there."""
        self.store, self.device = store, device
        base = CheckpointIndex.open(store.file.base.path)
        self._sources = [open_update(entry.name, entry.path, base) for entry in store.file.updates]
        self._merged = MergedModel(base, store, device)
        self._state: Checkpoint | None = None

    @classmethod
    def open(cls, run: Path, device: torch.device) -> LiveModel:
        return cls(RunStore.open(run), device)

    @property
    def model(self) -> Any:
        """The causal language model of transformers, in evaluation mode."""
        return self._merged.model

    @property
    def tokenizer(self) -> Any:
        return self._merged.tokenizer

    def set(self, checkpoint: Checkpoint) -> None:
        """Change the weights to those of one state; at once where they are that already."""
        if checkpoint != self._state:
            self._state = None  # a failure halfway leaves neither the old state nor the new one
            self._merged.set_updates(updates_of(self.store, self._sources, checkpoint))
            self._state = checkpoint


def updates_of(store: RunStore, sources: list[UpdateSource], checkpoint: Checkpoint) -> list[Update | None]:
    """θ − θ_pre of every target matrix at one state of a run, in the run's order; None where it is zero.

    ``sources``: the run's updates in order of arrival. An expert has its own target matrices alone.
    """
    kind, step, name = checkpoint
    if kind == "base":
        return [None for _ in store.keys]
    if kind == "expert":
        return [sources[step - 1].delta(key) for key in store.keys]
    if kind == "step":
        return [store.stored_state(index, step) for index in range(len(store.keys))]
    return [float(name) * store.state(index, store.steps) for index in range(len(store.keys))]
