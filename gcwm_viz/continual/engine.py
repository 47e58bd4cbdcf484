"""Runs the matrices of a run, or of several on the same updates, from wherever they stand, and writes the tables."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gcwm_viz.checkpoints.atomic import atomic_file, named_write_errors
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.estimate import memory_of
from gcwm_viz.continual.matrix import MatrixResult, process_matrix
from gcwm_viz.continual.member import remembered
from gcwm_viz.continual.session import begin_session, writing
from gcwm_viz.continual.store import RunStore, order_rows
from gcwm_viz.continual.summary import steps_table
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.merging.tiles import tile_bytes
from gcwm_viz.updates.sources import UpdateSource, open_update

SMALLER_TILES = (2**28, 2**26)
"""Bytes of the inner solver's tiles to try where a device is too small for whole matrices."""

Progress = Callable[[int, int, str], None]
"""Called with matrices done, matrices in all, and the matrix just finished."""


def run_matrices(
    stores: Sequence[RunStore], engine: Engine, progress: Progress | None = None, memory_budget: int | None = None
) -> None:
    """Process every matrix that a journal does not list; the caller holds the locks.

    ``stores``: one run, or several on the same base and updates in any order and with any settings; a matrix is then
    read once, and the geometry of its updates computed once, for all of them. Each worker reads its own slice of the
    inputs and puts its results on disk; the journals are written here alone.
    ``memory_budget``: bytes of tensors of all workers; there are as many workers as fit, at least one, and the inner
    solver works in tiles of rows where one matrix alone does not fit.
    """
    keys = stores[0].keys
    done = [store.finished() for store in stores]
    # Largest first, so that no worker is left with a long one at the end.
    still_open = [index for index in range(len(keys)) if any(index not in finished for finished in done)]
    still_open.sort(key=lambda index: -keys[index].parameters)

    def need(index: int) -> int:
        return max(memory_of(keys[index].shape, store.steps, store.settings) for store in stores)

    limit = tile = None
    if memory_budget is not None:
        limit = max(1, min(engine.workers, memory_budget // max(map(need, still_open), default=1)))
        tile = memory_budget // (4 * limit)
    # Workers elsewhere have another current folder.
    runs = tuple((store.path.absolute(), begin_session(store.path)) for store in stores)
    _check_cancel(stores)
    total, finished = len(keys) * len(stores), sum(map(len, done))
    work = partial(work_matrix, runs, tile)
    for index, report in engine.unordered(work, still_open, limit=limit, memory=need):
        for store, listed, seconds in zip(stores, done, report.seconds, strict=True):
            if index not in listed:
                listed.add(index)
                finished += 1
                _log(store, index, len(listed), seconds, report.worker)
        if progress:
            progress(finished, total, keys[index].name)
        _check_cancel(stores)


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
    with remembered() as known:
        deltas: dict[str, Update | None] = {}

        def forget() -> None:
            deltas.clear()
            known.clear()
            _free(worker.device)

        for (run, session), opened in zip(runs, _opened(runs), strict=True):
            begin = time.perf_counter()
            if _complete(opened.store, index):
                seconds.append(math.nan)
                continue
            result = _compute(opened, index, worker.device, tile, deltas, forget)
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
    base = CheckpointIndex.open(stores[0].info["base"]["path"])
    sources: dict[tuple[str, str], UpdateSource] = {}

    def source(entry: dict[str, str]) -> UpdateSource:
        place = entry["name"], entry["path"]
        if place not in sources:
            sources[place] = open_update(*place, base)
        return sources[place]

    return [
        _Opened(store, *([source(entry) for entry in store.info[kind]] for kind in ("updates", "states")))
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


def _compute(
    opened: _Opened,
    index: int,
    device: torch.device,
    tile: int | None,
    deltas: dict[str, Update | None],
    forget: Callable[[], None],
) -> MatrixResult:
    """One matrix of one run. ``deltas``: its updates by name, read where they are missing.

    Where the device's memory does not suffice it is tried again in tiles, then on the processor, and its rows say so.
    """
    store = opened.store
    key = store.keys[index]

    def compute(place: torch.device, limit: int | None) -> MatrixResult | None:
        """None where memory runs out; by then every tensor of the attempt is free again."""
        try:
            with tile_bytes(limit):
                for source in opened.updates:
                    if source.name not in deltas:
                        delta = source.delta(key)
                        deltas[source.name] = None if delta is None else delta.to(device=place)
                given = None
                if opened.states:
                    states = [source.delta(key) for source in opened.states]
                    given = [None if state is None else dense(state).to(place) for state in states]
                return process_matrix(
                    key, store.updates, [deltas[name] for name in store.updates], store.settings, given
                )
        except torch.OutOfMemoryError:
            return None

    result = compute(device, tile)
    for limit in SMALLER_TILES:
        if result is None:
            forget()
            result = compute(device, limit)
    if result is None:
        forget()
        result = compute(torch.device("cpu"), tile)
        deltas.clear()  # another run of the same matrix may still fit the device
        if result is None:
            raise InputError(f"matrix {key.name!r}: neither {device} nor the processor has the memory for it")
        for row in result.rows["matrices"]:
            row["reason"] = "; ".join(
                [row["reason"]] * bool(row["reason"]) + [f"on the processor: {device} is too small"]
            )
    return result


def _log(store: RunStore, index: int, done: int, seconds: float, worker: str) -> None:
    """List one matrix in the journal: it counts from now on."""
    store.log(
        "matrix",
        index=index,
        label=store.keys[index].name,
        done=done,
        total=len(store.keys),
        seconds=round(seconds, 4),
        worker=worker,
    )


def _check_cancel(stores: Sequence[RunStore]) -> None:
    for store in stores:
        store.check_cancel()


def _free(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def write_tables(store: RunStore) -> None:
    """Gather the rows of all matrices, in model order, into ``tables/*.parquet``."""
    rows: dict[str, list[dict]] = {"matrices": [], "pairs": [], "spectra": [], "barycenter": [], "solver": []}
    for index in range(len(store.keys)):
        for name, part in store.rows(index).items():
            rows[name] += part
    frames = {name: pd.DataFrame(order_rows(part)) for name, part in rows.items()}
    frames["steps"] = steps_table(frames["matrices"], store.settings)
    for name, frame in frames.items():
        write_table(store.path, name, frame)


def write_table(run: Path, name: str, frame: pd.DataFrame) -> None:
    """One table, atomically. The same rows give the same bytes."""
    with named_write_errors(run / "tables"):
        (run / "tables").mkdir(exist_ok=True)
    with atomic_file(run / "tables" / f"{name}.parquet") as file:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
