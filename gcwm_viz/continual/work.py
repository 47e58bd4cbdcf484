"""The work of a worker: read one matrix of one or several runs, compute it where memory suffices, and write it."""

import math
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.estimate import memory_of
from gcwm_viz.continual.fitting import Deltas, fitted
from gcwm_viz.continual.result import MatrixResult, process_matrix
from gcwm_viz.continual.run_file import InputEntry
from gcwm_viz.continual.session import writing
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Worker
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.shared import shared_geometry
from gcwm_viz.updates.matrices import depth
from gcwm_viz.updates.source import UpdateSource


@dataclass(frozen=True)
class Timing:
    """Seconds that one matrix took in each run, NaN where an earlier worker had computed it, and the worker's name."""

    seconds: list[float]
    worker: str


def work_matrix(runs: tuple[tuple[Path, str], ...], tile: int | None, worker: Worker, index: int) -> Timing:
    """Compute one matrix of every run, each given with its session, and write the results.

    Complete results of a worker that died are not computed again.
    """
    seconds = []
    with shared_geometry() as geometry:
        deltas = Deltas(worker.device)

        def release() -> None:
            deltas.leave_device()
            geometry.clear()

        last = _open_runs(runs)[-1]
        for (run, session), opened in zip(runs, _open_runs(runs), strict=True):
            begin = time.perf_counter()
            store = opened.store
            if _complete(store, index):
                seconds.append(math.nan)
                continue
            key = store.keys[index]
            deltas.fetch(key, [*opened.updates, *opened.states], memory_of(key.shape, store.steps, store.settings))

            waiting = time.perf_counter()
            with worker.turn:
                begin += time.perf_counter() - waiting  # another matrix was computed meanwhile
                result, remark = fitted(key, worker.device, tile, partial(_result, opened, index, deltas), release)
                if opened is last:
                    release()  # the next matrix may use the device while this one is written
            if remark:
                for row in result.rows["matrices"]:
                    row["reason"] = "; ".join([row["reason"]] * bool(row["reason"]) + [remark])
            with writing(run, session):
                store.write_matrix(index, result)
            seconds.append(time.perf_counter() - begin)
    return Timing(seconds, worker.name)


@dataclass(frozen=True)
class _OpenRun:
    store: RunStore
    updates: list[UpdateSource]
    states: list[UpdateSource]


def _result(opened: _OpenRun, index: int, deltas: Deltas, target: torch.device) -> MatrixResult:
    store = opened.store
    states = deltas.on(target, opened.states) if opened.states else None
    updates = deltas.on(target, opened.updates)
    return process_matrix(store.keys[index], store.updates, updates, store.settings, states, depth(store.keys))


@lru_cache(maxsize=1)
def _open_runs(runs: tuple[tuple[Path, str], ...]) -> list[_OpenRun]:
    """The runs and their inputs, opened once per process; their fingerprints were checked before."""
    stores = [RunStore.open(run) for run, _ in runs]
    base = CheckpointIndex.open(stores[0].file.base.path)
    sources: dict[tuple[str, str, float], UpdateSource] = {}

    def source(entry: InputEntry) -> UpdateSource:
        key = entry.name, entry.where, entry.strength
        if key not in sources:
            sources[key] = entry.open(base)
        return sources[key]

    return [
        _OpenRun(store, *([source(entry) for entry in entries] for entries in (store.file.updates, store.file.states)))
        for store in stores
    ]


def _complete(store: RunStore, index: int) -> bool:
    """Whether the result on disk is complete. Its rows are written after its tensors, each atomically."""
    first = store.steps if store.settings.continual.keep == "last" else 1
    try:
        store.rows(index)
        for step in range(first, store.steps + 1):
            store.branches(index, step)
    except InputError:
        return False
    return True
