"""What a training's update will meet: the base that it changes, earlier updates, and the state that they make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gcwm_viz.checkpoints.hub import local_folder
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.final import final_state
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import DEFAULT_PRESET, WITHOUT_PROBES, GCWMConfig
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.signals.arriving import Arriving, Settled, arriving
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.matrices import MatrixKey, depth, target_matrices
from gcwm_viz.updates.pairing import plan
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update


@dataclass(frozen=True)
class Meeting:
    """``base``: the model that the training starts from; ``keys``: its target matrices; ``sources``: the earlier
    updates; ``warnings``: what is probably a mistake about them. ``store``: the finished run whose final state the
    update meets; without one it is the merge of the earlier updates by default settings."""

    base: CheckpointIndex
    keys: list[MatrixKey]
    sources: list[UpdateSource]
    settings: RunSettings
    warnings: list[str]
    store: RunStore | None = None

    @classmethod
    def of(cls, base: str | Path, updates: Mapping[str, str | Path], choice: Choice) -> "Meeting":
        """Of updates by name, in order of arrival, given as a command line takes them; headers only.

        Raises :class:`InputError` as :func:`plan` does, and for what cannot be opened.
        """
        index = CheckpointIndex.open(local_folder(base))
        keys = target_matrices(index, choice)
        sources = [open_update(name, local_folder(path), index) for name, path in updates.items()]
        warnings = plan(index, sources, choice).warnings if sources else []
        settings = RunSettings.preset_with(DEFAULT_PRESET, {}).at_eta(WITHOUT_PROBES)
        return cls(index, keys, sources, settings, warnings)

    @classmethod
    def of_run(cls, run: str | Path, base: str | Path | None, choice: Choice) -> "Meeting":
        """Of a finished run, whose updates are the earlier ones, relative to the run's base. ``base``: another model
        that the training starts from, such as the run's final state exported; ``choice`` without patterns is the run's.

        Raises :class:`InputError` for a run that is not finished or whose inputs have changed, and for a base that
        lacks one of its matrices or has it in another shape.
        """
        store = RunStore.open(Path(run))
        store.check_finished()
        opened = reopen_inputs(store, probes=False)
        index = opened.base if base is None else CheckpointIndex.open(local_folder(base))
        keys = target_matrices(index, choice if choice.words else store.file.choice)
        shapes = {key.name: key.shape for key in target_matrices(index, store.file.choice)}
        for key in store.keys:
            if shapes.get(key.name) != key.shape:
                found = shapes.get(key.name, "none")
                raise InputError(
                    f"{index.root}: expected the matrix {key.name!r} of shape {key.shape} as in run {store.path}, "
                    f"found {found}"
                )
        return cls(index, keys, opened.sources, store.settings, [], store)

    @property
    def names(self) -> list[str]:
        """Of the earlier updates."""
        return [source.name for source in self.sources]

    @property
    def config(self) -> GCWMConfig:
        return self.settings.gcwm

    def settled(self, key: MatrixKey, device: torch.device, largest: int) -> Settled:
        """What of one matrix does not change, computed on ``device``; ``largest``: as in :meth:`Settled.of`."""
        deltas = [_on(source.delta(key), device) for source in self.sources]
        state = _on(self._state(key, deltas), device)
        return Settled.of(self.weight(key), deltas, state, self.config, largest)

    def arriving(self, settled: Settled, key: MatrixKey, delta: Update | None, device: torch.device) -> Arriving:
        """What the update, ``delta`` in this matrix, does to what is ``settled`` there."""
        return arriving(settled, self.weight(key), _on(delta, device), self.config)

    def weight(self, key: MatrixKey) -> torch.Tensor:
        """The base's matrix (d_out, d_in), float32."""
        return key.to_linear(read_tensor(self.base.stored(key.name)).float())

    def _state(self, key: MatrixKey, deltas: Sequence[Update | None]) -> Update | None:
        if self.store is not None:
            index = next((at for at, own in enumerate(self.store.keys) if own.name == key.name), None)
            return None if index is None else self.store.stored_state(index, self.store.steps)
        if all(delta is None for delta in deltas):
            return None
        return final_state(key, self.names, deltas, self.settings, depth(self.keys))


def _on(delta: Update | None, device: torch.device) -> Update | None:
    return None if delta is None else delta.to(device)
