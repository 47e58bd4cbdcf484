"""Many runs on the same updates, computed together: methods × orders × points of a grid.

    OUT/sweep.json              base and updates of all runs by fingerprint
    OUT/NAME/                   an ordinary run folder, with the same bytes as when run alone
    OUT/tables/sweep.parquet    one row a run

A worker takes one matrix through all runs: it is read once, and the geometry of every update is computed once for
all runs with the same ranks. OUT is a run root, so the app opens and compares its runs.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.engine import run_matrices, write_table
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import METRICS, headline
from gcwm_viz.probes.scores import downstream, score_matrix
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import Inputs, open_inputs
from gcwm_viz.runs.run import Progress, Shares, begin, continue_run, create_run
from gcwm_viz.signals.catalogue import summarised
from gcwm_viz.studies.grid import Grid, Point, distinct, grid_points, pairs, word
from gcwm_viz.studies.orders import shuffles, task_orders

FORMAT = "gcwm_viz.sweep"


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: a point of the grid on one order. ``order``: names of the updates by arrival."""

    number: int
    order: tuple[str, ...]
    point: Point

    @property
    def name(self) -> str:
        """Its folder: the method, the order's number from 1, and the varied settings."""
        return ",".join([self.settings.method, f"order={self.number}", *pairs(self.point.values)])

    @property
    def settings(self) -> RunSettings:
        return self.point.settings


def sweep(
    inputs: Inputs,
    out: Path,
    runs: Sequence[SweepRun],
    engine: Engine,
    *,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compute every run and return the table, a row each in the order of ``runs``; resumes an interrupted call.

    Columns: run, method, order, the varied settings; means over matrices of the summarised signals at the last step;
    with probes, per split, overall and forgetting in ``metric``'s unit (test NaN without a test split).
    Raises :class:`InputError` for states of a training pipeline, an ``out`` that belongs to other inputs, and what
    ``create_run`` and ``continue_run`` do; :class:`~gcwm_viz.continual.folder.WorkCancelledError` when OUT/cancel
    appears or one of the runs is cancelled.
    """
    if inputs.states:
        raise InputError("states of a training pipeline are described, not merged: there is nothing to vary")
    folders = dict(inputs.updates)
    with ResultFolder(out, "sweep.json", "a sweep of", progress).work(_about(inputs)) as folder:
        stores = []
        for run in runs:
            ordered = replace(inputs, updates=[(name, folders[name]) for name in run.order])
            stores.append(_run(ordered, out / run.name, run))
        unfinished = [store for store in stores if len(store.finished()) < len(store.keys)]
        if unfinished:
            with ExitStack() as stack:
                for store in unfinished:
                    stack.enter_context(store.lock())
                for store in unfinished:
                    ranks = begin(store, engine).ranks
                    stack.enter_context(store.failure_in_journal())
                run_matrices(unfinished, engine, partial(folder.tell, "matrices"), memory_budget, ranks)
        shares: Shares = {}
        for done, store in enumerate(stores, start=1):
            if store.status() != "complete":  # its matrices are finished, tables and probes are not
                if inputs.probes:
                    _copy_scores(store, stores[: done - 1])
                continue_run(
                    store, engine, progress=lambda *_: folder.check_cancel(), memory_budget=memory_budget, shares=shares
                )
            folder.tell("points", done, len(stores), store.path.name, event="point")
        frame = pd.DataFrame([_row(run, store) for run, store in zip(runs, stores, strict=True)])
        write_table(out, "sweep", frame)
        folder.log("complete", done=len(stores), total=len(stores))
    return frame


def sweep_runs(
    updates: Sequence[str],
    methods: Sequence[str],
    grid: Grid,
    orders: int = 1,
    preset: str = "scale-free",
    seed: int = 0,
) -> list[SweepRun]:
    """Methods × orders × the grid's points, each validated; the given order first, others drawn by ``seed``.

    Raises :class:`InputError` for an unknown method or setting, a value twice, and more than n! orders.
    """
    for what, values in (("method", methods), *grid.items()):
        if not values or not distinct(values):
            raise InputError(f"a sweep lists every {what} once, got {', '.join(map(word, values)) or 'none'}")
    sequences = task_orders(updates, orders, shuffles(len(updates), seed))
    return [
        SweepRun(number, order, point)
        for method in methods
        for (number, order), point in product(enumerate(sequences, start=1), grid_points(grid, method, preset))
    ]


def _run(inputs: Inputs, folder: Path, run: SweepRun) -> RunStore:
    if not (folder / "run.json").is_file():
        return create_run(inputs, folder, run.settings)
    store = RunStore.open(folder)
    same = store.settings.to_dict() == run.settings.to_dict() and store.updates == list(run.order)
    same = same and store.probe_dtype == getattr(torch, inputs.probe_dtype)
    if not same or store.file.probes.where != (str(inputs.probes.resolve()) if inputs.probes else None):
        raise InputError(f"run {folder} has other settings, order or probes than its name says; use another folder")
    return store


def _copy_scores(store: RunStore, others: Sequence[RunStore]) -> None:
    """Copy the scores of base and experts from another run on the same order."""
    for other in others:
        if other.updates == store.updates:
            for file in [*other.path.glob("probes/base-*.json"), *other.path.glob("probes/expert-*.json")]:
                write_bytes(store.path / "probes" / file.name, file.read_bytes())
            return


def _row(run: SweepRun, store: RunStore) -> dict[str, Any]:
    last = pd.read_parquet(store.path / "tables" / "steps.parquet").iloc[-1]
    row: dict[str, Any] = {"run": run.name, "method": run.settings.method, "order": " > ".join(run.order)}
    row |= {key: word(value) if value is None else value for key, value in run.point.values.items()}
    row |= {signal.column: float(last[signal.column]) for signal in summarised()}
    file = store.path / "tables" / "scores.parquet"
    if file.is_file():
        scores = pd.read_parquet(file)
        row["metric"] = metric = headline(scores)
        for split in ("dev", "test"):
            R = score_matrix(scores, split, metric)
            metrics = downstream(R, run.order, higher_is_better=METRICS[metric])
            for name in ("overall", "forgetting"):
                row[f"{split}_{name}"] = float(metrics[name].iloc[-1]) if len(metrics) else math.nan
    return row


def _about(inputs: Inputs) -> dict[str, Any]:
    """What all runs of the sweep share."""
    opened = open_inputs(inputs)
    return ({"targets": choice} if (choice := inputs.choice.to_json()) else {}) | {
        "format": FORMAT,
        "base": opened.base.fingerprint(),
        "updates": sorted([source.name, source.fingerprint()] for source in opened.sources),
    }
