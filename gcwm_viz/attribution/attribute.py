"""Attribution of a run: every task's change of loss, at every step and from the base to the end, split over matrices.

    RUN/attribution/attribution.json           the run: settings, inputs and probes by fingerprint, precision
    RUN/attribution/pieces/dev-000-001-02.json one task (by its place) on the path from state 0 to state 1
    RUN/attribution/lines/dev-000-001.json     scores of every task along that path and beyond it
    RUN/attribution/tables/NAME.parquet        attribution, interpolation
    RUN/attribution/journal.jsonl              progress

A piece is committed by renaming, so an interrupted call resumes, and later calls add paths, tasks and splits.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gcwm_viz.attribution.bench import Bench
from gcwm_viz.attribution.path import RELATIVE, LossSplit
from gcwm_viz.attribution.plan import Piece, paths_of, tasks_with_loss
from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.engines.memory import available_memory
from gcwm_viz.errors import InputError, named_write_errors
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.probes.merged import OutsideTensor
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.runs.run import Progress

FOLDER = "attribution"
"""Folder of the results inside the run."""
FORMAT = "gcwm_viz.attribution"
PRECISIONS = ("float32", "bfloat16")


def attribute(
    run: Path | str,
    *,
    start: int | None = None,
    step: int | None = None,
    tasks: Sequence[str] | None = None,
    split: str = "dev",
    examples: int | None = None,
    precision: str = PRECISIONS[0],
    interpolate: bool = False,
    on: torch.device | Engine | None = None,
    workers: int | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The table ``attribution`` of a finished run, after computing what it lacks; resumes an earlier call.

    ``start``, ``step``: one path, from the state after ``start`` (0 is the base, by default ``step`` − 1) to that after
    ``step`` (by default the last); without both every step, and the base to the end. ``tasks``: names, by default every
    task of ``split`` with a loss. ``examples``: the first so many of every task. ``precision``: of the matrix products;
    the residual says whether ``bfloat16`` was enough. ``interpolate``: score every path at the points
    ``gcwm_viz.attribution.bench.LAMBDAS`` too (table ``interpolation``). ``on``: an engine or a device, by default
    the CPU.

    Raises ``InputError`` for an unfinished run, one without probes that have a loss, a step or task that it has
    not, changed inputs, too little memory, and a loss that is not finite, and
    ``gcwm_viz.continual.folder.WorkCancelledError`` when RUN/attribution/cancel appears.
    """
    store = RunStore.open(Path(run))
    chosen = tasks_with_loss(store, split, tasks)
    paths = paths_of(store, start, step)
    if examples is not None and examples < 1:
        raise InputError(f"examples: expected at least 1, found {examples}")
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    store.check_finished()
    base = reopen_inputs(store).base
    need = _memory(base, store)
    engine = on if isinstance(on, Engine) else LocalEngine(on or torch.device("cpu"), workers)
    _check_memory(engine, need, store)
    limit = max(1, memory_budget // need) if memory_budget else None
    out = store.path / FOLDER
    hint = f"give the same --examples and --dtype, or delete {out} to begin again"
    folder = ResultFolder(out, "attribution.json", "results for", progress, hint=hint)
    about = _about(store, examples, precision)
    with folder.work(about):
        if _about(RunStore.open(store.path), examples, precision) != about:
            raise InputError(f"run {store.path} changed while its attribution began; start it again")
        with named_write_errors(out):
            for name in ("pieces", "lines"):
                (out / name).mkdir(exist_ok=True)
        work = WithPlugins(partial(_work, store.path.absolute(), json.dumps(about), examples, precision))
        pieces = [
            Piece(ends, split, index, f"{task.name}, {ends.words}") for ends in paths for index, task in chosen.items()
        ]
        pieces += [Piece(ends, split, None, f"scores, {ends.words}") for ends in paths if interpolate]
        todo = [piece for piece in pieces if _read(out / piece.file) is None]
        done = len(pieces) - len(todo)
        for piece, content in engine.unordered(work, todo, limit=limit, memory=lambda _: need):
            write_bytes(out / piece.file, json.dumps(content).encode())
            done += 1
            folder.tell("losses", done, len(pieces), piece.label, event="loss")
        tables = write_tables(store)
        folder.log("complete", done=len(pieces), total=len(pieces))
    return tables["attribution"]


def _work(
    run: Path, identity: str, examples: int | None, precision: str, worker: Worker, piece: Piece
) -> dict[str, Any]:
    return Bench.of(run, identity, examples, precision, worker.device).result(piece)


def write_tables(store: RunStore) -> dict[str, pd.DataFrame]:
    """Gather all pieces of a run into its tables ``attribution`` and ``interpolation``, by split, path and task."""
    out = store.path / FOLDER
    rows = []
    outside = {"layer": OutsideTensor.layer, "family": OutsideTensor.family}
    places = {key.name: {"layer": key.layer, "family": key.family} for key in store.keys}
    for piece in _contents(out / "pieces"):
        split = LossSplit(*(piece[name] for name in ("values", "change", "nodes", "residual")))
        about = {name: piece[name] for name in ("start", "step", "task", "split")}
        measured = {"change": split.change, "nodes": split.nodes, "residual": split.residual}
        for matrix, value in zip(piece["matrices"], split.values, strict=True):
            place = {"matrix": matrix} | places.get(matrix, outside)
            rows.append(about | place | {"value": value} | measured | {"converged": split.converged})
    scores = [row for line in _contents(out / "lines") for row in line["rows"]]
    tables = {"attribution": pd.DataFrame(rows), "interpolation": pd.DataFrame(scores)}
    for name, table in tables.items():
        if len(table):
            write_table(out, name, table)
    return tables


def _contents(folder: Path) -> list[dict[str, Any]]:
    return [content for content in map(_read, sorted(folder.glob("*.json"))) if content is not None]


def _read(file: Path) -> dict[str, Any] | None:
    """A piece's content; None where there is none or the file is damaged."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _about(store: RunStore, examples: int | None, precision: str) -> dict[str, Any]:
    file = store.file
    return {
        "format": FORMAT,
        "settings": store.settings.to_dict(),
        "base": file.base.fingerprint,
        "updates": [[entry.name, entry.fingerprint] for entry in (*file.updates, *file.states)],
        "probes": file.probes.fingerprint,
        "examples": examples,
        "precision": precision,
        "residual": RELATIVE,
    }


def _memory(base: CheckpointIndex, store: RunStore) -> int:
    """Bytes of a worker, an estimate: the weights, both ends of a path as dense matrices, and twice what scoring
    adds."""
    weights = 4 * base.parameters
    whole = store.file.states or store.settings.continual.outside != "keep"
    outside = base.parameters if whole else sum(key.parameters for key in store.keys)
    scoring = max(0, (store.file.probes.memory or 0) - base.parameters * store.probe_dtype.itemsize)
    return weights + 2 * 4 * outside + 2 * scoring


def _check_memory(engine: Engine, need: int, store: RunStore) -> None:
    free = available_memory() if engine.device == "cpu" else None
    if free is not None and need > free:
        raise InputError(
            f"run {store.path}: attribution needs about {need / 1e9:.1f} GB of memory for the weights, their changes "
            f"and gradients, {free / 1e9:.1f} GB are free"
        )
