"""Runs the matrices of a run, from wherever it stands, and writes its tables."""

import time
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gcwm_viz.checkpoints.atomic import atomic_file, named_write_errors
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.estimate import memory_of
from gcwm_viz.continual.local import default_workers, unordered
from gcwm_viz.continual.matrix import MatrixResult, process_matrix
from gcwm_viz.continual.store import RunStore, order_rows
from gcwm_viz.continual.summary import steps_table
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.merging.tiles import tile_bytes
from gcwm_viz.updates.sources import UpdateSource, open_update
from gcwm_viz.updates.stream import read_matrix

SMALLER_TILES = (2**28, 2**26)
"""Bytes of the inner solver's tiles to try where a device is too small for whole matrices."""

Progress = Callable[[int, int, str], None]
"""Called with matrices done, matrices in all, and the matrix just finished."""


def run_matrices(
    store: RunStore,
    device: torch.device,
    workers: int | None = None,
    progress: Progress | None = None,
    memory_budget: int | None = None,
) -> None:
    """Process every matrix that the journal does not list; the caller holds the lock.

    Each worker reads its own slice of the inputs and puts its result on disk; the journal is written here alone.
    ``memory_budget``: bytes of tensors of all workers; there are as many workers as fit, at least one, and the inner
    solver works in tiles of rows where one matrix alone does not fit.
    """
    done = store.finished()
    # Largest first, so that no worker is left with a long one at the end.
    open_indices = sorted(set(range(len(store.keys))) - done, key=lambda index: -store.keys[index].parameters)
    workers = default_workers(device) if workers is None else workers
    tile = None
    if memory_budget is not None:
        need = max((memory_of(store.keys[i].shape, store.steps, store.settings) for i in open_indices), default=1)
        workers = max(1, min(workers, memory_budget // need))
        tile = memory_budget // (4 * workers)
    store.check_cancel()
    for index, seconds in unordered(partial(work_matrix, store.path, device, tile), open_indices, workers):
        done.add(index)
        store.log_matrix(index, seconds, len(done))
        if progress:
            progress(len(done), len(store.keys), store.keys[index].name)
        store.check_cancel()


def work_matrix(run: Path, device: torch.device, tile: int | None, index: int) -> float:
    """Compute one matrix of the run, put the result on disk and return the seconds it took.

    Where the device's memory does not suffice it is tried again in tiles, then on the processor, and its rows say so.
    """
    begin = time.perf_counter()
    store, sources, states = _opened(run)
    key = store.keys[index]

    def compute(place: torch.device, limit: int | None) -> MatrixResult | None:
        """None where memory runs out; by then every tensor of the attempt is free again."""
        try:
            with tile_bytes(limit):
                deltas = [
                    None if delta is None else delta.to(device=place) for delta in read_matrix(key, sources).deltas
                ]
                given = None
                if states:
                    given = [None if s is None else dense(s).to(place) for s in read_matrix(key, states).deltas]
                return process_matrix(key, store.updates, deltas, store.settings, given)
        except torch.OutOfMemoryError:
            return None

    result = compute(device, tile)
    for limit in SMALLER_TILES:
        if result is None:
            _free(device)
            result = compute(device, limit)
    if result is None:
        _free(device)
        result = compute(torch.device("cpu"), tile)
        if result is None:
            raise InputError(f"matrix {key.name!r}: neither {device} nor the processor has the memory for it")
        for row in result.rows["matrices"]:
            row["reason"] = "; ".join(
                [row["reason"]] * bool(row["reason"]) + [f"on the processor: {device} is too small"]
            )
    store.write_matrix(index, result)
    return time.perf_counter() - begin


@lru_cache(maxsize=1)
def _opened(run: Path) -> tuple[RunStore, list[UpdateSource], list[UpdateSource]]:
    """The run and its inputs, opened once a process; that they are unchanged was checked before."""
    store = RunStore.open(run)
    base = CheckpointIndex.open(store.info["base"]["path"])
    updates, states = (
        [open_update(entry["name"], entry["path"], base) for entry in store.info[kind]]
        for kind in ("updates", "states")
    )
    return store, updates, states


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
