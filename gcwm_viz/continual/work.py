"""One matrix of one or several runs: read, computed where memory suffices, and put on disk. What a worker does."""

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
from gcwm_viz.geometry.member import shared_subspaces
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.merging.tiles import tile_bytes
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update

SMALLER_TILES = (2**28, 2**26)
"""Bytes of the inner solver's tiles to try where a device is too small for whole matrices."""

AHEAD = 3
"""A GPU has room for a second matrix where it holds so many times what one needs."""


@dataclass(frozen=True)
class Report:
    """What a worker says of a matrix: seconds of each run, NaN where an earlier worker had done it; its own name."""

    seconds: list[float]
    worker: str


def work_matrix(runs: tuple[tuple[Path, str], ...], tile: int | None, worker: Worker, index: int) -> Report:
    """Compute one matrix of every run, each given with its session, and put the results on disk.

    What a worker that died has left complete is taken as it is.
    """
    seconds = []
    with shared_subspaces() as subspaces:
        deltas = _Deltas(worker.device)

        def forget() -> None:
            deltas.leave_device()
            subspaces.clear()

        def make_room() -> None:
            forget()
            _free(worker.device)

        last = _opened(runs)[-1]
        for (run, session), opened in zip(runs, _opened(runs), strict=True):
            begin = time.perf_counter()
            if _complete(opened.store, index):
                seconds.append(math.nan)
                continue
            deltas.fetch(opened.store, index, [*opened.updates, *opened.states])
            ready = time.perf_counter()
            with worker.turn:
                begin += time.perf_counter() - ready  # another matrix had its turn meanwhile
                result = _compute(opened, index, worker.device, tile, deltas, make_room)
                if opened is last:
                    forget()  # the device is the next one's while this one is written
            with writing(run, session):
                opened.store.write_matrix(index, result)
            seconds.append(time.perf_counter() - begin)
    return Report(seconds, worker.name)


@dataclass(frozen=True)
class _Opened:
    store: RunStore
    updates: list[UpdateSource]
    states: list[UpdateSource]


@lru_cache(maxsize=1)
def _opened(runs: tuple[tuple[Path, str], ...]) -> list[_Opened]:
    """The runs and their inputs, opened once a process; that they are unchanged was checked before."""
    stores = [RunStore.open(run) for run, _ in runs]
    base = CheckpointIndex.open(stores[0].file.base.path)
    sources: dict[tuple[str, str], UpdateSource] = {}

    def source(entry: InputEntry) -> UpdateSource:
        place = entry.name, entry.where
        if place not in sources:
            sources[place] = open_update(entry.name, entry.path, base)
        return sources[place]

    return [
        _Opened(store, *([source(entry) for entry in given] for given in (store.file.updates, store.file.states)))
        for store in stores
    ]


def _complete(store: RunStore, index: int) -> bool:
    """Whether the result on disk is whole. Its rows are written after its tensors, and both in one move."""
    first = store.steps if store.settings.continual.keep == "last" else 1
    try:
        store.rows(index)
        for step in range(first, store.steps + 1):
            store.branches(index, step)
    except InputError:
        return False
    return True


class _Deltas:
    """The updates of one matrix as read, and on the device that computes: sent there ahead, where that has room."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._read: dict[UpdateSource, Update | None] = {}
        self._there: dict[UpdateSource, Update | None] = {}

    def fetch(self, store: RunStore, index: int, sources: Sequence[UpdateSource]) -> None:
        key = store.keys[index]
        for source in sources:
            if source not in self._read:
                self._read[source] = source.delta(key)
        if _roomy(self.device, memory_of(key.shape, store.steps, store.settings)):
            with suppress(torch.OutOfMemoryError):  # its turn comes yet
                self.on(self.device, sources)

    def on(self, device: torch.device, sources: Sequence[UpdateSource]) -> list[Update | None]:
        if device != self.device:
            return [_moved(self._read[source], device) for source in sources]
        for source in sources:
            if source not in self._there:
                self._there[source] = _moved(self._read[source], device)
        return [self._there[source] for source in sources]

    def leave_device(self) -> None:
        self._there.clear()


def _roomy(device: torch.device, need: int) -> bool:
    """Whether a matrix may wait on a GPU beside the one that is computed there; the same at every time of asking."""
    return device.type != "cuda" or AHEAD * need <= torch.cuda.get_device_properties(device).total_memory


def _moved(delta: Update | None, device: torch.device) -> Update | None:
    return None if delta is None else to_device(delta, device)


def _compute(
    opened: _Opened,
    index: int,
    device: torch.device,
    tile: int | None,
    deltas: _Deltas,
    make_room: Callable[[], None],
) -> MatrixResult:
    """One matrix of one run.

    Where the device's memory does not suffice it is tried again in tiles, then on the CPU, and its rows say so.
    """
    store = opened.store
    key = store.keys[index]

    def compute(place: torch.device, limit: int | None) -> MatrixResult | None:
        """None where memory runs out; by then every tensor of the attempt is free again."""
        try:
            with tile_bytes(limit):
                given = deltas.on(place, opened.states) if opened.states else None
                result = process_matrix(key, store.updates, deltas.on(place, opened.updates), store.settings, given)
                settle(place)
                return result
        except torch.OutOfMemoryError:
            return None

    result = compute(device, tile)
    for limit in SMALLER_TILES:
        if result is None:
            make_room()
            result = compute(device, limit)
    if result is None:
        make_room()
        result = compute(torch.device("cpu"), tile)
        if result is None:
            raise InputError(f"matrix {key.name!r}: neither {device} nor the CPU has the memory for it")
        for row in result.rows["matrices"]:
            row["reason"] = "; ".join([row["reason"]] * bool(row["reason"]) + [f"on the CPU: {device} is too small"])
    return result


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
