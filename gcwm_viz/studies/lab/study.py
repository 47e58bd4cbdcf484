"""Every system on the lab over task orders and seeds, resumable.

    OUT/study.json            orders, seeds, methods, recipe and versions
    OUT/trained/              base, experts and pipeline states, each trained once
    OUT/cells/….json          one run: a method on one order and seed, its signals and scores of every step
    OUT/tables/NAME.parquet   runs, scores, cells, choices, ablations

A run is committed by renaming, so an interrupted study resumes, and one with more orders, seeds or methods reuses
finished runs. Coefficients are chosen on the development split and reported on test.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import order_rows
from gcwm_viz.continual.summary import steps_table
from gcwm_viz.engines.local import unordered
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import versions
from gcwm_viz.experiments.lab.library import State
from gcwm_viz.experiments.lab.pipelines import PIPELINES, train_pipeline
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.shared import shared_geometry
from gcwm_viz.merging.registry import get_method
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.studies.grid import grid_points
from gcwm_viz.studies.lab.ablations import run_ablations
from gcwm_viz.studies.lab.bench import Bench, Rows
from gcwm_viz.studies.lab.plan import (
    ABLATIONS,
    MERGES,
    METHODS,
    WITHOUT_BARYCENTER,
    Cell,
    definition,
    stages,
    study_orders,
)
from gcwm_viz.studies.lab.tables import write_study_tables

FORMAT = "gcwm_viz.study"


def study(
    out: Path,
    *,
    orders: int = 6,
    seeds: int = 3,
    methods: Sequence[str] = METHODS,
    ablations: bool = True,
    recipe: Recipe | None = None,
    workers: int = 1,
    report: Callable[[str], None] | None = None,
) -> dict[str, pd.DataFrame]:
    """Compute missing runs and return the tables (see :mod:`gcwm_viz.studies.lab.tables`).

    `orders`: how many task orders, the recipe's own first; `seeds`: 0 … seeds − 1; `workers`: processes at a time, one
    thread each. Cheap methods come first for all orders and seeds, then the pipelines one after another; the tables
    are written after each stage. Raises :class:`InputError` for an unknown method, too many orders, and an `out` that
    belongs to a study of another recipe or is being written; :class:`~gcwm_viz.continual.folder.WorkCancelledError`
    when OUT/cancel appears.
    """
    recipe = sendable(recipe)
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {unknown[0]!r}")
    sequences = study_orders(recipe, orders)
    if seeds < 1:
        raise InputError(f"number of seeds: expected at least 1, found {seeds}")
    work = WithPlugins(partial(_work, out, recipe))
    begin = time.monotonic()

    def progress(stage: str, done: int, total: int, label: str) -> None:
        if report is not None:
            report(f"{time.monotonic() - begin:.0f} s: {label} ({done} of {total} in this stage)")

    folder = ResultFolder(out, "study.json", "a study of", progress, before=("trained",))
    # More orders, seeds or methods extend the same study.
    with folder.work(_about(recipe, sequences, seeds, methods), same=("format", "recipe")):
        for stage in stages(sequences, range(seeds), methods, ablations):
            todo = [cell for cell in stage if not is_finished(out, cell)]
            for done, (cell, _) in enumerate(unordered(work, todo, workers), start=1):
                folder.tell("cells", done, len(todo), cell.name, event="cell")
            if todo:
                write_study_tables(out)
        tables = write_study_tables(out)
        folder.log("complete")
    return tables


def sendable(recipe: Recipe | None) -> Recipe:
    """The recipe, by default the lab's, with plain dictionaries: the read-only views of the defaults cannot be sent to
    another process."""
    recipe = Recipe() if recipe is None else recipe
    return replace(recipe, base_shares=dict(recipe.base_shares), expert_steps=dict(recipe.expert_steps))


def is_finished(out: Path, cell: Cell) -> bool:
    """Whether the cell's file is there and comes from what determines its result now."""
    file = cell_file(out, cell)
    if not file.is_file():
        return False
    stored = json.loads(file.read_bytes()).get("definition") or {}
    if "settings" in stored:  # a setting that is newer than the cell has its default
        stored["settings"] = RunSettings.from_dict(stored["settings"]).to_dict()
    if "signals" in stored:
        stored["signals"] = GCWMConfig.from_dict(stored["signals"]).to_dict()
    return bool(stored == json.loads(json.dumps(definition(cell.method))))


def cell_file(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.name}.json"


def _work(out: Path, recipe: Recipe, cell: Cell) -> None:
    bench = open_bench(out, recipe, cell.seed)
    begin = time.process_time()
    if cell.method == "experts":
        content = _references(bench)
    elif cell.method == ABLATIONS:
        content = {"ablations": run_ablations(bench, cell.order[0])}
    else:
        content = _run(bench, cell)
    content |= {"method": cell.method, "seed": cell.seed, "order": list(cell.order)}
    content["definition"] = definition(cell.method)
    content["seconds"] = time.process_time() - begin
    file = cell_file(out, cell)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, json.dumps(content).encode())


_OPEN: dict[tuple[Path, str, int], Bench] = {}
"""The last bench of this process: encoding probes and loading a model takes longer than scoring one state."""


def open_bench(out: Path, recipe: Recipe, seed: int) -> Bench:
    """The bench of one seed, kept until another is opened."""
    key = (out, _digest(recipe), seed)
    if key not in _OPEN:
        _OPEN.clear()
        _OPEN[key] = Bench(seed, recipe, out / "trained")
    return _OPEN[key]


def _digest(recipe: Recipe) -> str:
    return hashlib.sha256(json.dumps(recipe.to_json(), sort_keys=True).encode()).hexdigest()


def _references(bench: Bench) -> dict[str, Any]:
    """Scores of the base and of every expert."""
    rows = [{"model": "base", "step": 0, "update": ""} | row for row in bench.score({})]
    for step, task in enumerate(bench.tasks, start=1):
        expert = bench.library.expert(task)
        rows += [{"model": "expert", "step": step, "update": task} | row for row in bench.score(expert)]
    return {"scores": rows}


def _run(bench: Bench, cell: Cell) -> dict[str, Any]:
    begin = time.process_time()
    settings, choices, states = prepare(bench, cell)
    trained = time.process_time() - begin
    matrices, states = bench.describe(cell.order, settings, states)
    steps = steps_table(pd.DataFrame(order_rows(matrices)), settings).to_dict("records")
    scores: Rows = [{"model": "base", "step": 0, "update": ""} | row for row in bench.score({})]
    gradients: dict[tuple[int, str], dict[Any, Any]] = {}
    for step, state in enumerate(states, start=1):
        scores += [{"model": "step", "step": step, "update": cell.order[step - 1]} | row for row in bench.score(state)]
        if step > 1:
            rows = bench.gradients(state, cell.order[:step]).to_dict("records")
            gradients |= {(step, row["matrix"]): row for row in rows}
    return {
        "settings": settings.to_dict() if cell.method in MERGES else {},
        "choices": choices,
        "train_seconds": trained,
        "steps": steps,
        "cells": [row | gradients.get((row["step"], row["matrix"]), {}) for row in matrices],
        "scores": scores,
    }


def prepare(bench: Bench, cell: Cell) -> tuple[RunSettings, Rows, list[State] | None]:
    """Settings of a run and the points they were chosen from, and the states of a pipeline, trained where they are
    missing; None for a merge."""
    if cell.method in PIPELINES:
        settings = RunSettings.preset_with("scale-free", WITHOUT_BARYCENTER)
        return settings, [], train_pipeline(cell.method, bench.library, cell.order)
    return *_choose(bench, cell), None


def _choose(bench: Bench, cell: Cell) -> tuple[RunSettings, Rows]:
    """The grid's best point by exact match of the final step on dev, the first of equal ones."""
    contender = MERGES[cell.method]
    cheaper = {} if get_method(contender.method).conflict_gate else WITHOUT_BARYCENTER
    points = grid_points(contender.grid, contender.method, "scale-free", cheaper | contender.fixed)
    if len(points) == 1:
        return points[0].settings, []
    rows: Rows = []
    merged: dict[str, State] = {}
    with shared_geometry():
        for point in points:
            if point.merge not in merged:
                merged[point.merge] = bench.final_merge(cell.order, point.settings)
            eta = point.settings.continual.eta
            dev, error = bench.exact({n: eta * m for n, m in merged[point.merge].items()}, "dev")
            rows.append({"point": json.dumps(point.values), "dev": dev, "dev_se": error})
    best = max(range(len(rows)), key=lambda i: rows[i]["dev"])
    return points[best].settings, [row | {"best": i == best} for i, row in enumerate(rows)]


def _about(recipe: Recipe, orders: Sequence[tuple[str, ...]], seeds: int, methods: Sequence[str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "recipe_digest": _digest(recipe),
        "recipe": recipe.to_json(),
        "orders": [list(order) for order in orders],
        "seeds": list(range(seeds)),
        "methods": list(methods),
        "merges": {name: {"fixed": m.fixed, "grid": m.grid} for name, m in MERGES.items()},
        "versions": {"python": platform.python_version()} | versions(("torch", "transformers")),
    }
