"""A run's model kept in memory and set to one of its states after another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.outside import OutsideState
from gcwm_viz.continual.store import RunStore
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.stored import Checkpoint


class LiveModel:
    """The base of a run in memory, once, in ``dtype`` (by default the run's precision of probing); its tensors are set
    to those of a state. States of a training pipeline are set whole, with what it changed outside the target matrices;
    those of a merge with what it merges there.

    Not safe to use from two threads at a time.
    """

    def __init__(self, store: RunStore, device: torch.device, dtype: torch.dtype | None = None) -> None:
        """Raises :class:`~gcwm_viz.errors.InputError` for a base that transformers cannot load completely, and for
        inputs that are no longer there."""
        self.store, self.device = store, device
        self.base = CheckpointIndex.open(store.file.base.path)
        self._sources = [entry.open(self.base) for entry in store.file.updates]
        self._states = [entry.open(self.base) for entry in store.file.states]
        self._outside_state = OutsideState(self._sources, store.keys, store.settings.continual)
        given = (name for state in self._states for name in state.outside_names(store.keys))
        outside = dict.fromkeys(given if self._states else self._outside_state.names)
        self.merged = MergedModel(self.base, store.keys, device, dtype or store.probe_dtype, list(outside))
        self._state: Checkpoint | None = None

    @classmethod
    def open(cls, run: Path, device: torch.device) -> LiveModel:
        return cls(RunStore.open(run), device)

    @property
    def model(self) -> Any:
        """The causal language model of transformers, in evaluation mode."""
        return self.merged.model

    @property
    def tokenizer(self) -> Any:
        return self.merged.tokenizer

    def set(self, checkpoint: Checkpoint) -> None:
        """Change the weights to those of one state; at once where they are that already."""
        if checkpoint != self._state:
            self.set_updates(self.updates(checkpoint))
            self._state = checkpoint

    def set_updates(self, updates: list[Update | None]) -> None:
        """Change the weights to base + Δ, one for each of :meth:`updates`."""
        self._state = None  # a failure halfway leaves neither the old state nor the new one
        self.merged.set_updates(updates)

    def updates(self, checkpoint: Checkpoint) -> list[Update | None]:
        """θ − θ_pre of every tensor of ``merged.keys`` at one state; None where it is zero or not the state's.

        An expert has its own target matrices alone, changed by its update at the strength of the run.
        """
        return self._targets(checkpoint) + self.outside(checkpoint)

    def _targets(self, checkpoint: Checkpoint) -> list[Update | None]:
        (kind, step, name), store = checkpoint, self.store
        if kind == "base":
            return [None for _ in store.keys]
        if kind == "expert":
            return [self._sources[step - 1].delta(key) for key in store.keys]
        if kind == "step":
            return [store.stored_state(index, step) for index in range(len(store.keys))]
        return [float(name) * store.state(index, store.steps) for index in range(len(store.keys))]

    def outside(self, checkpoint: Checkpoint) -> list[Update | None]:
        """θ − θ_pre of the tensors of ``merged.keys`` that are no target matrices."""
        (kind, step, name), names = checkpoint, [key.name for key in self.merged.keys[len(self.store.keys) :]]
        if kind not in ("step", "strength") or not names:
            return [None for _ in names]
        if not self._states:
            at, strength = (step, 1.0) if kind == "step" else (self.store.steps, float(name))
            return [self._outside_state.change(each, at, strength) for each in names]
        state = self._states[step - 1]
        stored = set(state.outside_names(self.store.keys))
        changes = [state.outside_change(name) if name in stored else None for name in names]
        return [None if change is None or not change.any() else change for change in changes]
