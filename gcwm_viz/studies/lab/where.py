"""Where forgetting is in the lab's systems, and whether geometry conflict is in the same place.

    OUT/where.json              recipe, orders, seeds, methods, versions
    OUT/trained/                base, experts and pipeline states, each trained once
    OUT/cells/….json            one run: attribution of every step and task, with the signals of each matrix
    OUT/tables/where.parquet    attribution: method, seed, order, step, task, role, layer, family, value, change
    OUT/tables/space.parquet    Spearman's ρ of every signal with the attribution over the matrices of one task and step

A merge has the settings that the study chooses, on the development split; losses are those of the test split, on which
nothing was chosen. Resumable like the study.
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from gcwm_viz.attribution.path import StatePath, split_loss
from gcwm_viz.attribution.spatial import spatial_correlations
from gcwm_viz.checkpoints.architecture import Place
from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.engine import write_table
from gcwm_viz.engines.local import unordered
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import versions
from gcwm_viz.experiments.lab.library import apply
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.probes.merged import Weight
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.studies.lab.bench import Bench, Rows
from gcwm_viz.studies.lab.places import SIGNALS
from gcwm_viz.studies.lab.plan import METHODS, Cell, definition, study_orders
from gcwm_viz.studies.lab.study import cell_file, is_finished, open_bench, prepare, sendable
from gcwm_viz.updates.matrices import MatrixKey

FORMAT = "gcwm_viz.where"
SYSTEMS = ("gcwm", "wudi", "task-arithmetic", "seq-sft", "ewc")
SPLIT = "test"


def where(
    out: Path,
    *,
    orders: int = 3,
    seeds: int = 3,
    methods: Sequence[str] = SYSTEMS,
    recipe: Recipe | None = None,
    workers: int = 1,
    report: Callable[[str], None] | None = None,
) -> dict[str, pd.DataFrame]:
    """Compute missing runs and return the tables ``where`` and ``space``.

    Raises :class:`InputError` for an unknown method, too many orders, and an ``out`` of another recipe;
    :class:`~gcwm_viz.continual.folder.WorkCancelledError` when OUT/cancel appears.
    """
    recipe = sendable(recipe)
    unknown = [name for name in methods if name not in METHODS or name == "joint"]
    if unknown:
        raise InputError(f"method must be one of {', '.join(METHODS)} but joint, got {unknown[0]!r}")
    if seeds < 1:
        raise InputError(f"number of seeds: expected at least 1, found {seeds}")
    sequences = study_orders(recipe, orders)
    about = {
        "format": FORMAT,
        "recipe": recipe.to_json(),
        "orders": [list(order) for order in sequences],
        "seeds": list(range(seeds)),
        "methods": list(methods),
        "split": SPLIT,
        "versions": {"python": platform.python_version()} | versions(("torch", "transformers")),
    }

    def tell(stage: str, done: int, total: int, label: str) -> None:
        if report is not None:
            report(f"{label} ({done} of {total})")

    folder = ResultFolder(out, "where.json", "a study of", tell, before=("trained",))
    with folder.work(about, same=("format", "recipe", "split")):
        (out / "cells").mkdir(exist_ok=True)
        # Base and experts of a seed are trained by the first cell of it that is computed.
        cells = [Cell(m, seed, order) for order in sequences for m in methods for seed in range(seeds)]
        todo = [cell for cell in cells if not is_finished(out, cell)]
        work = WithPlugins(partial(_work, out, recipe))
        for done, (cell, _) in enumerate(unordered(work, todo, workers), start=1):
            folder.tell("cells", done, len(todo), cell.name, event="cell")
        tables = write_where(out)
        folder.log("complete")
    return tables


def write_where(out: Path) -> dict[str, pd.DataFrame]:
    """Gather the finished runs into both tables."""
    parts: dict[str, list[pd.DataFrame]] = {"where": [], "space": []}
    for file in sorted((out / "cells").glob("*.json")):
        content = json.loads(file.read_bytes())
        run = {"method": content["method"], "seed": content["seed"], "order": ",".join(content["order"])}
        cells, signals = pd.DataFrame(content["attribution"]), pd.DataFrame(content["signals"])
        space = spatial_correlations(cells, signals, SIGNALS, order=content["order"])
        roles = space.drop_duplicates(["step", "task"])[["step", "task", "role"]]
        values = cells.merge(roles, on=["step", "task"])[_VALUES]
        parts["where"].append(values.astype(dict.fromkeys(("value", "change", "residual"), "float32")).assign(**run))
        parts["space"].append(space.drop(columns="start").assign(**run))
    tables = {name: _joined(frames) for name, frames in parts.items()}
    for name, table in tables.items():
        write_table(out, name, table)
    return tables


_VALUES = ["step", "task", "role", "layer", "family", "value", "change", "residual"]


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    if not frames:
        return pd.DataFrame()
    table = pd.concat(frames, ignore_index=True)
    run = ["method", "seed", "order"]
    return table[[*run, *(column for column in table if column not in run)]]


class LabModel:
    """The lab's model, whose target matrices are set to base + Δ."""

    device = torch.device("cpu")

    def __init__(self, bench: Bench) -> None:
        self._base, self.model = bench.library.base(), bench.library.model
        self.keys: list[MatrixKey] = bench.keys
        own = dict(self.model.named_parameters())
        self.weights = {key.name: Weight(own[key.name], Place(key.name)) for key in self.keys}

    def set_updates(self, deltas: Sequence[Update | None]) -> None:
        both = zip(self.keys, deltas, strict=True)
        apply(self.model, self._base, {key.name: dense(delta) for key, delta in both if delta is not None})


def _work(out: Path, recipe: Recipe, cell: Cell) -> None:
    bench = open_bench(out, recipe, cell.seed)
    settings, _, states = prepare(bench, cell)
    signals, states = bench.describe(cell.order, settings, states)
    model = LabModel(bench)
    rows: Rows = []
    for step, state in enumerate(states, start=1):
        before = [None] * len(bench.keys) if step == 1 else [states[step - 2][key.name] for key in bench.keys]
        path = StatePath(model, before, [state[key.name] for key in bench.keys])
        for loss in bench.losses:
            split = split_loss(path, loss)
            about = {"start": step - 1, "step": step, "task": loss.task.name}
            measured = {"change": split.change, "nodes": split.nodes, "residual": split.residual}
            for key, value in zip(bench.keys, split.values, strict=True):
                place = {"matrix": key.name, "layer": key.layer, "family": key.family}
                rows.append(about | place | {"value": value} | measured)
    content = {
        "method": cell.method,
        "seed": cell.seed,
        "order": list(cell.order),
        "definition": definition(cell.method),
        "attribution": rows,
        "signals": [{name: row.get(name, math.nan) for name in ("step", "matrix", *SIGNALS)} for row in signals],
    }
    write_bytes(cell_file(out, cell), json.dumps(content).encode())
