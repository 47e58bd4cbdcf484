"""Computes the unfinished matrices of a run, or of several runs on the same updates, and writes the tables."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gcwm_viz.checkpoints.atomic import atomic_file
from gcwm_viz.continual.estimate import matrix_bytes
from gcwm_viz.continual.fitting import within_budget
from gcwm_viz.continual.gather import gathered
from gcwm_viz.continual.session import begin_session
from gcwm_viz.continual.store import RunStore
from gcwm_viz.continual.work import work_matrix
from gcwm_viz.engines.engine import Engine
from gcwm_viz.errors import named_write_errors
from gcwm_viz.plugins.loading import WithPlugins

Progress = Callable[[int, int, str], None]
"""Called with matrices done, matrices in all, and the matrix just finished."""


def run_matrices(
    stores: Sequence[RunStore],
    engine: Engine,
    progress: Progress | None = None,
    memory_budget: int | None = None,
    ranks: Sequence[int | None] | None = None,
) -> None:
    """Compute every matrix that a journal does not list; the caller holds the locks.

    ``stores``: one run, or several on the same base and updates in any order and with any settings; a matrix is then
    read once, and the geometry of its updates computed once, for all of them. Each worker reads its own slice of the
    inputs and writes its results; only this process writes the journals.
    ``memory_budget``: bytes of tensors of all workers; it limits their number, to at least one, and the inner solver
    works in tiles of rows where a single matrix does not fit. ``ranks``: for every matrix, the joint rank of its
    updates where all of them are adapters, else None; without it every update counts as dense.
    """
    keys = stores[0].keys
    done = [store.finished() for store in stores]
    # Largest first, so that no worker is left with a long one at the end.
    pending = [index for index in range(len(keys)) if any(index not in finished for finished in done)]
    pending.sort(key=lambda index: -keys[index].parameters)

    needs = [max(each) for each in zip(*(matrix_bytes(keys, s.steps, s.settings, ranks) for s in stores), strict=True)]
    limit, tile = within_budget(memory_budget, engine.workers, max((needs[index] for index in pending), default=1))
    # Workers on other machines have another current folder.
    runs = tuple((store.path.absolute(), begin_session(store.path)) for store in stores)
    _check_cancel(stores)
    total, finished = len(keys) * len(stores), sum(map(len, done))
    work = WithPlugins(partial(work_matrix, runs, tile))
    for index, timing in engine.unordered(work, pending, limit=limit, memory=needs.__getitem__, overlap=True):
        for store, listed, seconds in zip(stores, done, timing.seconds, strict=True):
            if index not in listed:
                listed.add(index)
                finished += 1
                store.log_matrix(index, seconds, len(listed), timing.worker)
        if progress:
            progress(finished, total, keys[index].name)
        _check_cancel(stores)


def _check_cancel(stores: Sequence[RunStore]) -> None:
    for store in stores:
        store.check_cancel()


def write_tables(store: RunStore) -> None:
    """The tables of all matrices as ``tables/*.parquet``."""
    for name, frame in gathered(store, range(len(store.keys))).items():
        write_table(store.path, name, frame)


def write_table(run: Path, name: str, frame: pd.DataFrame) -> None:
    """One table, atomically. The same rows give the same bytes."""
    with named_write_errors(run / "tables"):
        (run / "tables").mkdir(exist_ok=True)
    with atomic_file(run / "tables" / f"{name}.parquet") as file:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
