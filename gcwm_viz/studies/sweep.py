"""Many runs on the same updates: orders × methods × settings, computed side by side.

    OUT/sweep.json              what the runs have in common: base and updates by fingerprint
    OUT/NAME/                   an ordinary run folder for each point, the same bytes as if it had been run alone
    OUT/tables/sweep.parquet    one row a point

A worker takes one matrix through all points: it is read once, and the geometry of every update is computed once for
all points that look at it with the same ranks. OUT is a run root, so the app opens and compares the points.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.claim import claim
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.engine import run_matrices, write_table
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine
from gcwm_viz.errors import InputError
from gcwm_viz.merging.registry import get_method
from gcwm_viz.probes.metrics import METRICS, headline
from gcwm_viz.probes.scores import downstream, score_matrix
from gcwm_viz.runs.inputs import Inputs, open_inputs
from gcwm_viz.runs.run import Progress, begin, continue_run, create_run, failure_in_journal

FORMAT = "gcwm_viz.sweep"
ENDS = ("conflict", "alpha", "state_conflict", "incoming_conflict", "displacement", "state_norm")
"""Means over matrices at the last step that the table shows."""


@dataclass(frozen=True)
class Point:
    """One run of a sweep. ``order``: names of the updates as they arrive; ``values``: of the settings varied."""

    number: int
    order: tuple[str, ...]
    method: str
    values: Mapping[str, Any]
    settings: RunSettings

    @property
    def name(self) -> str:
        """Its folder: the method, the order's number from 1, and what else is varied."""
        parts = [self.method, f"order={self.number}", *(f"{key}={_word(self.values[key])}" for key in self.values)]
        return ",".join(parts)


def sweep(
    inputs: Inputs,
    out: Path,
    points: Sequence[Point],
    engine: Engine,
    *,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Run every point and return the table, one row a point in the order given; goes on where it was interrupted.

    Columns: run, method, order, the settings varied; of the last step the means over matrices of :data:`ENDS`; with
    probes, per split, overall and forgetting in ``metric``'s unit (test NaN without a test split).
    Raises :class:`InputError` for states of a training pipeline, an ``out`` that belongs to other inputs, and what
    ``create_run`` and ``continue_run`` do; :class:`RunCancelledError` when a point's run is cancelled.
    """
    if inputs.states:
        raise InputError("states of a training pipeline are described, not merged: there is nothing to vary")
    _claim(out, inputs)
    folders = dict(inputs.updates)
    stores = []
    for point in points:
        own = replace(inputs, updates=[(name, folders[name]) for name in point.order])
        stores.append(_run(own, out / point.name, point))
    still_open = [store for store in stores if len(store.finished()) < len(store.keys)]
    if still_open:
        with ExitStack() as stack:
            for store in still_open:
                stack.enter_context(store.lock())
            for store in still_open:
                ranks = begin(store, engine).ranks
                stack.enter_context(failure_in_journal(store))
            run_matrices(
                still_open,
                engine,
                (lambda done, total, label: progress("matrices", done, total, label)) if progress else None,
                memory_budget,
                ranks,
            )
    shares: dict[str, dict[str, float]] = {}
    for done, store in enumerate(stores, start=1):
        if store.status() != "complete":  # its matrices are; tables and probes are not
            if inputs.probes:
                _take_scores(store, stores[: done - 1])
            continue_run(store, engine, memory_budget=memory_budget, shares=shares)
        if progress:
            progress("points", done, len(stores), store.path.name)
    frame = pd.DataFrame([_row(point, store) for point, store in zip(points, stores, strict=True)])
    write_table(out, "sweep", frame)
    return frame


def sweep_points(
    updates: Sequence[str],
    methods: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    orders: int = 1,
    preset: str = "scale-free",
    seed: int = 0,
) -> list[Point]:
    """Methods × orders × the product of the grid's values, the last setting fastest, each point validated.

    Raises :class:`InputError` for an unknown method or setting, a value twice, and more orders than there are.
    """
    for what, values in (("method", methods), *grid.items()):
        if not values or len(set(map(_word, values))) != len(values):
            raise InputError(f"a sweep lists every {what} once, got {', '.join(map(_word, values)) or 'none'}")
    points = []
    for method, (number, order), values in product(
        methods, enumerate(task_orders(updates, orders, seed), start=1), product(*grid.values())
    ):
        get_method(method)
        chosen = dict(zip(grid, values, strict=True))
        points.append(Point(number, order, method, chosen, RunSettings.preset_with(preset, chosen, method)))
    return points


def task_orders(updates: Sequence[str], count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """The order given, then others drawn without repetition. Raises :class:`InputError` beyond n!."""
    if not 1 <= count <= math.factorial(len(updates)):
        raise InputError(
            f"number of orders: expected 1 to {math.factorial(len(updates))} for {len(updates)} updates, found {count}"
        )
    found = {tuple(updates): None}
    generator = torch.Generator().manual_seed(seed)
    while len(found) < count:
        found[tuple(updates[place] for place in torch.randperm(len(updates), generator=generator).tolist())] = None
    return list(found)


def _run(inputs: Inputs, folder: Path, point: Point) -> RunStore:
    if not (folder / "run.json").is_file():
        return create_run(inputs, folder, point.settings)
    store = RunStore.open(folder)
    same = store.settings.to_dict() == point.settings.to_dict() and store.updates == list(point.order)
    same = same and store.probe_dtype == getattr(torch, inputs.probe_dtype)
    if not same or store.file.probes.where != (str(inputs.probes.resolve()) if inputs.probes else None):
        raise InputError(f"run {folder} has other settings, order or probes than its name says; use another folder")
    return store


def _take_scores(store: RunStore, others: Sequence[RunStore]) -> None:
    """Scores of base and experts are those of any other point with the same order."""
    for other in others:
        if other.updates == store.updates:
            for file in [*other.path.glob("probes/base-*.json"), *other.path.glob("probes/expert-*.json")]:
                write_bytes(store.path / "probes" / file.name, file.read_bytes())
            return


def _row(point: Point, store: RunStore) -> dict[str, Any]:
    last = pd.read_parquet(store.path / "tables" / "steps.parquet").iloc[-1]
    row: dict[str, Any] = {"run": point.name, "method": point.method, "order": " > ".join(point.order)}
    row |= {key: _word(value) if value is None else value for key, value in point.values.items()}
    row |= {name: float(last[name]) for name in ENDS}
    file = store.path / "tables" / "scores.parquet"
    if file.is_file():
        scores = pd.read_parquet(file)
        row["metric"] = metric = headline(scores)
        for split in ("dev", "test"):
            R = score_matrix(scores, split, metric)
            found = downstream(R, point.order, higher_is_better=METRICS[metric])
            for name in ("overall", "forgetting"):
                row[f"{split}_{name}"] = float(found[name].iloc[-1]) if len(found) else math.nan
    return row


def _claim(out: Path, inputs: Inputs) -> None:
    """Points of other updates do not belong beside these."""
    opened = open_inputs(inputs)
    about = {
        "format": FORMAT,
        "base": opened.base.fingerprint(),
        "updates": sorted([source.name, source.fingerprint()] for source in opened.sources),
    }
    claim(out, "sweep.json", about, "a sweep of")


def _word(value: Any) -> str:
    return "none" if value is None else str(value)
