"""The work of a worker: read one matrix of one or several runs, compute it where memory suffices, and write it."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.estimate import memory_of
from gcwm_viz.continual.result import MatrixResult, process_matrix
from gcwm_viz.continual.run_file import InputEntry
from gcwm_viz.continual.session import writing
from gcwm_viz.continual.store import RunStore
from gcwm_viz.continual.transfer import settle, to_device
from gcwm_viz.engines.engine import Worker
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.shared import shared_geometry
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.merging.tiles import tile_bytes
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update

SMALLER_TILES = (2**28, 2**26)
"""Bytes of the inner solver's tiles to try where a device is too small for whole matrices."""

AHEAD = 3
"""A second matrix may wait on a GPU whose memory is at least so many times what one needs."""


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
        deltas = _Deltas(worker.device)

        def release() -> None:
            deltas.leave_device()
            geometry.clear()

        def free_memory() -> None:
            release()
            _free(worker.device)

        last = _open_runs(runs)[-1]
        for (run, session), opened in zip(runs, _open_runs(runs), strict=True):
            begin = time.perf_counter()
            if _complete(opened.store, index):
                seconds.append(math.nan)
                continue
            deltas.fetch(opened.store, index, [*opened.updates, *opened.states])
            waiting = time.perf_counter()
            with worker.turn:
                begin += time.perf_counter() - waiting  # another matrix was computed meanwhile
                result = _compute(opened, index, worker.device, tile, deltas, free_memory)
                if opened is last:
                    release()  # the next matrix may use the device while this one is written
            with writing(run, session):
                opened.store.write_matrix(index, result)
            seconds.append(time.perf_counter() - begin)
    return Timing(seconds, worker.name)


@dataclass(frozen=True)
class _OpenRun:
    store: RunStore
    updates: list[UpdateSource]
    states: list[UpdateSource]


@lru_cache(maxsize=1)
def _open_runs(runs: tuple[tuple[Path, str], ...]) -> list[_OpenRun]:
    """The runs and their inputs, opened once per process; their fingerprints were checked before."""
    stores = [RunStore.open(run) for run, _ in runs]
    base = CheckpointIndex.open(stores[0].file.base.path)
    sources: dict[tuple[str, str], UpdateSource] = {}

    def source(entry: InputEntry) -> UpdateSource:
        key = entry.name, entry.where
        if key not in sources:
            sources[key] = open_update(entry.name, entry.path, base)
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


class _Deltas:
    """The updates of one matrix as read, and their copies on the computing device, made ahead where it has room."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._read: dict[UpdateSource, Update | None] = {}
        self._on_device: dict[UpdateSource, Update | None] = {}

    def fetch(self, store: RunStore, index: int, sources: Sequence[UpdateSource]) -> None:
        key = store.keys[index]
        for source in sources:
            if source not in self._read:
                self._read[source] = source.delta(key)
        if _has_room(self.device, memory_of(key.shape, store.steps, store.settings)):
            with suppress(torch.OutOfMemoryError):  # then it is copied when it is computed
                self.on(self.device, sources)

    def on(self, device: torch.device, sources: Sequence[UpdateSource]) -> list[Update | None]:
        if device != self.device:
            return [_moved(self._read[source], device) for source in sources]
        for source in sources:
            if source not in self._on_device:
                self._on_device[source] = _moved(self._read[source], device)
        return [self._on_device[source] for source in sources]

    def leave_device(self) -> None:
        self._on_device.clear()


def _has_room(device: torch.device, need: int) -> bool:
    """Whether a matrix may wait on a GPU while another is computed, by its total memory, not by what is free."""
    return device.type != "cuda" or AHEAD * need <= torch.cuda.get_device_properties(device).total_memory


def _moved(delta: Update | None, device: torch.device) -> Update | None:
    return None if delta is None else to_device(delta, device)


def _compute(
    opened: _OpenRun,
    index: int,
    device: torch.device,
    tile: int | None,
    deltas: _Deltas,
    free_memory: Callable[[], None],
) -> MatrixResult:
    """One matrix of one run.

    Where the device's memory does not suffice it is computed in tiles, then on the CPU, which its rows report.
    """
    store = opened.store
    key = store.keys[index]

    def compute(target: torch.device, limit: int | None) -> MatrixResult | None:
        """None where memory runs out; by then every tensor of the attempt is free again."""
        try:
            with tile_bytes(limit):
                states = deltas.on(target, opened.states) if opened.states else None
                result = process_matrix(key, store.updates, deltas.on(target, opened.updates), store.settings, states)
                settle(target)
                return result
        except torch.OutOfMemoryError:
            return None

    result = compute(device, tile)
    for limit in SMALLER_TILES:
        if result is None:
            free_memory()
            result = compute(device, limit)
    if result is None:
        free_memory()
        result = compute(torch.device("cpu"), tile)
        if result is None:
            raise InputError(f"matrix {key.name!r}: neither {device} nor the CPU has the memory for it")
        for row in result.rows["matrices"]:
            row["reason"] = "; ".join([row["reason"]] * bool(row["reason"]) + [f"on the CPU: {device} is too small"])
    return result


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
