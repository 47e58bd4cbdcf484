"""Runs the matrices of a run one after the other, from wherever it stands, and writes its tables."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from gcwm_viz.checkpoints.atomic import atomic_file
from gcwm_viz.continual.matrix import process_matrix
from gcwm_viz.continual.store import RunStore, order_rows
from gcwm_viz.continual.summary import steps_table
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.updates.sources import UpdateSource
from gcwm_viz.updates.stream import read_matrix

Progress = Callable[[int, int, str], None]
"""Called with matrices done, matrices in all, and the matrix just finished."""


def run_matrices(
    store: RunStore,
    sources: Sequence[UpdateSource],
    device: torch.device,
    states: Sequence[UpdateSource] | None = None,
    progress: Progress | None = None,
) -> None:
    """Process every matrix that the journal does not list, one at a time; the caller holds the lock."""
    done = store.finished()
    for index, key in enumerate(store.keys):
        if index in done:
            continue
        store.check_cancel()
        begin = time.perf_counter()
        deltas = [delta if delta is None else delta.to(device=device) for delta in read_matrix(key, sources).deltas]
        given = None
        if states is not None:
            given = [None if state is None else dense(state).to(device) for state in read_matrix(key, states).deltas]
        result = process_matrix(key, store.updates, deltas, store.settings, given)
        store.commit_matrix(index, result, time.perf_counter() - begin)
        done.add(index)
        if progress:
            progress(len(done), len(store.keys), key.name)


def write_tables(store: RunStore) -> None:
    """Gather the rows of all matrices, in model order, into ``tables/*.parquet``."""
    rows: dict[str, list[dict]] = {"matrices": [], "pairs": [], "spectra": [], "solver": []}
    for index in range(len(store.keys)):
        for name, part in store.rows(index).items():
            rows[name] += part
    frames = {name: pd.DataFrame(order_rows(part)) for name, part in rows.items()}
    frames["steps"] = steps_table(frames["matrices"], store.settings)
    for name, frame in frames.items():
        write_table(store.path, name, frame)


def write_table(run: Path, name: str, frame: pd.DataFrame) -> None:
    """One table, atomically. The same rows give the same bytes."""
    (run / "tables").mkdir(exist_ok=True)
    with atomic_file(run / "tables" / f"{name}.parquet") as file:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
