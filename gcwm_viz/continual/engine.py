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
from gcwm_viz.continual.local import default_workers, unordered
from gcwm_viz.continual.matrix import process_matrix
from gcwm_viz.continual.store import RunStore, order_rows
from gcwm_viz.continual.summary import steps_table
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.updates.sources import UpdateSource, open_update
from gcwm_viz.updates.stream import read_matrix

Progress = Callable[[int, int, str], None]
"""Called with matrices done, matrices in all, and the matrix just finished."""


def run_matrices(
    store: RunStore, device: torch.device, workers: int | None = None, progress: Progress | None = None
) -> None:
    """Process every matrix that the journal does not list; the caller holds the lock.

    Each worker reads its own slice of the inputs and puts its result on disk; the journal is written here alone.
    """
    done = store.finished()
    # Largest first, so that no worker is left with a long one at the end.
    open_indices = sorted(set(range(len(store.keys))) - done, key=lambda index: -store.keys[index].parameters)
    workers = default_workers(device) if workers is None else workers
    store.check_cancel()
    for index, seconds in unordered(partial(work_matrix, store.path, device), open_indices, workers):
        store.log_matrix(index, seconds)
        done.add(index)
        if progress:
            progress(len(done), len(store.keys), store.keys[index].name)
        store.check_cancel()


def work_matrix(run: Path, device: torch.device, index: int) -> float:
    """Compute one matrix of the run, put the result on disk and return the seconds it took."""
    begin = time.perf_counter()
    store, sources, states = _opened(run)
    key = store.keys[index]
    deltas = [delta if delta is None else delta.to(device=device) for delta in read_matrix(key, sources).deltas]
    given = None
    if states:
        given = [None if state is None else dense(state).to(device) for state in read_matrix(key, states).deltas]
    store.write_matrix(index, process_matrix(key, store.updates, deltas, store.settings, given))
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
