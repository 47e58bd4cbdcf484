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
from gcwm_viz.continual.final_work import Sources
from gcwm_viz.continual.outside import OutsideState
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
from gcwm_viz.updates.source import UpdateSource


class State(Protocol):
    """A state that a worker can read."""

    def updates(self, keys: Sequence[MatrixKey]) -> list[Update | None]:
        """θ − θ_pre of every matrix."""

    def arrived(self) -> tuple[Sequence[str], ContinualConfig]:
        """Names of the updates in it, in order of arrival, and the settings of their sequence."""


@dataclass(frozen=True)
class MergedState:
    """The final state of ``folder``'s merges under ``continual``."""

    folder: FinalFolder
    continual: ContinualConfig

    def updates(self, keys: Sequence[MatrixKey]) -> list[Update | None]:
        return self.folder.states(keys, self.continual)

    def arrived(self) -> tuple[Sequence[str], ContinualConfig]:
        return self.folder.updates, self.continual


@dataclass(frozen=True)
class StoredState:
    """A state that a run keeps."""

    run: Path
    step: int

    def updates(self, keys: Sequence[MatrixKey]) -> list[Update | None]:
        store = RunStore.open(self.run)
        return [store.stored_state(index, self.step) for index in range(len(keys))]

    def arrived(self) -> tuple[Sequence[str], ContinualConfig]:
        store = RunStore.open(self.run)
        return store.updates[: self.step], store.settings.continual


@dataclass(frozen=True)
class Model:
    """What is scored: the base of ``sources``, whose matrices ``keys`` are set, and what of the updates lies outside
    them where a state merges that, on the tasks of ``probes``; of a ``split`` on its files alone."""

    sources: Sources
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
    outside = any(state.arrived()[1].outside != "keep" for state in states.values())
    work = WithPlugins(partial(_score, model, session, outside))
    for (name, _), stored in engine.unordered(work, list(states.items()), limit=limit, memory=memory):
        yield name, from_json(json.loads(stored))


def _score(model: Model, session: str, outside: bool, worker: Worker, item: tuple[str, State]) -> str:
    bench, state = _bench(model, session, outside, worker.device), item[1]
    updates, continual = state.arrived()
    rest = OutsideState([bench.sources[name] for name in updates] if outside else [], model.keys, continual)
    names = (key.name for key in bench.model.keys[len(model.keys) :])
    bench.model.set_updates([*state.updates(model.keys), *(rest.change(name, len(updates)) for name in names)])
    return json.dumps(to_json(bench.probe.measure(bench.model.model, worker.device)))


@dataclass(frozen=True)
class _Bench:
    model: MergedModel
    probe: BehaviourProbe
    sources: Mapping[str, UpdateSource]


@lru_cache(maxsize=1)
def _bench(model: Model, session: str, outside: bool, device: torch.device) -> _Bench:
    """Loaded once per process and session."""
    del session
    dtype: Any = getattr(torch, model.probes.dtype)
    sources = model.sources.open() if outside else {}
    names = dict.fromkeys(name for source in sources.values() for name in source.outside_names(model.keys))
    merged = MergedModel(CheckpointIndex.open(location(model.sources.base)), model.keys, device, dtype, list(names))
    probes = model.probes.path
    tasks = load_split(probes, model.split) if model.split else load_tasks(probes)
    return _Bench(merged, BehaviourProbe(merged.tokenizer, tasks), sources)
