"""Scores of final states over an engine; every worker holds one model, which is set to one state after another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import location
from gcwm_viz.continual.final_folder import FinalFolder
from gcwm_viz.continual.run_file import ProbeEntry
from gcwm_viz.continual.sequence import ContinualConfig
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.tasks import load_split, load_tasks
from gcwm_viz.probes.values import TaskValues, from_json, to_json
from gcwm_viz.updates.matrices import MatrixKey


class State(Protocol):
    """A state that a worker can read."""

    def updates(self, keys: Sequence[MatrixKey]) -> list[Update | None]:
        """θ − θ_pre of every matrix."""


@dataclass(frozen=True)
class MergedState:
    """The final state of ``folder``'s merges under ``continual``."""

    folder: FinalFolder
    continual: ContinualConfig

    def updates(self, keys: Sequence[MatrixKey]) -> list[Update | None]:
        return self.folder.states(keys, self.continual)


@dataclass(frozen=True)
class StoredState:
    """A state that a run keeps."""

    run: Path
    step: int

    def updates(self, keys: Sequence[MatrixKey]) -> list[Update | None]:
        store = RunStore.open(self.run)
        return [store.stored_state(index, self.step) for index in range(len(keys))]


@dataclass(frozen=True)
class Model:
    """What is scored: ``base`` (a folder), whose matrices ``keys`` are set, on the tasks of ``probes``; of a ``split``
    on its files alone."""

    base: str
    keys: tuple[MatrixKey, ...]
    probes: ProbeEntry
    split: str = ""


def scores(
    model: Model, states: Mapping[str, State], engine: Engine, session: str, memory_budget: int | None = None
) -> Iterator[tuple[str, list[TaskValues]]]:
    """(name, values of every example of every task) of each state, as they finish.

    ``session``: another one reads model and probes anew. ``memory_budget``: bytes for all workers, of which at least
    one works.
    """
    need = model.probes.memory or 0
    limit = max(1, memory_budget // need) if memory_budget and need else None
    memory = (lambda _: need) if need else None
    work = WithPlugins(partial(_score, model, session))
    for (name, _), stored in engine.unordered(work, list(states.items()), limit=limit, memory=memory):
        yield name, from_json(json.loads(stored))


def _score(model: Model, session: str, worker: Worker, item: tuple[str, State]) -> str:
    bench = _bench(model, session, worker.device)
    bench.model.set_updates(item[1].updates(model.keys))
    return json.dumps(to_json(bench.probe.measure(bench.model.model, worker.device)))


@dataclass(frozen=True)
class _Bench:
    model: MergedModel
    probe: BehaviourProbe


@lru_cache(maxsize=1)
def _bench(model: Model, session: str, device: torch.device) -> _Bench:
    """Loaded once per process and session."""
    del session
    dtype: Any = getattr(torch, model.probes.dtype)
    merged = MergedModel(CheckpointIndex.open(location(model.base)), model.keys, device, dtype)
    probes = model.probes.path
    tasks = load_split(probes, model.split) if model.split else load_tasks(probes)
    return _Bench(merged, BehaviourProbe(merged.tokenizer, tasks))
