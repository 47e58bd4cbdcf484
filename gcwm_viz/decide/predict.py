"""Predictors of a run's updates, computed before any merge: what a forecast reads.

    RUN/forecast/forecast.json          the run's inputs and probes by fingerprint
    RUN/forecast/pieces/00000.json      interference of the updates in one matrix
    RUN/forecast/pieces/probes-*.json   divergence, first-order effects, scores of every update alone with less of it,
                                        on the probes of this fingerprint
    RUN/forecast/tables/NAME.parquet    updates, pairs, effects, solo: the tables of the decision benchmark
    RUN/forecast/journal.jsonl          progress

A piece is committed by renaming, so an interrupted call resumes. Probes that the run got or changed later add a piece.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.knowledge import STRENGTHS, Knowledge
from gcwm_viz.decide.measure import Effects
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import named_write_errors
from gcwm_viz.linalg.lowrank import scaled
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.metrics import rows_of_metric
from gcwm_viz.probes.tasks import load_tasks
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.runs.run import Progress
from gcwm_viz.runs.tables import read_table
from gcwm_viz.signals.interference import MatrixInterference, interference, over_matrices, pair_rows

FOLDER = "forecast"
"""Folder of the results inside the run."""
FORMAT = "gcwm_viz.forecast"
SPLIT = "dev"
TABLES = ("updates", "pairs", "effects", "solo")
PROBES = "probes"


def predict(
    run: Path | str,
    *,
    on: torch.device | Engine | None = None,
    workers: int | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> dict[str, pd.DataFrame]:
    """The tables of a run's predictors, after computing what they lack; resumes an earlier call.

    Of a run without development probes the predictors that need none. The scores of base and experts are those of the
    run, so a run that is not finished has none. ``on``: an engine or a device, by default the CPU.

    Raises :class:`InputError` for changed inputs and a run of a training pipeline, and
    :class:`~gcwm_viz.continual.folder.WorkCancelledError` when RUN/forecast/cancel appears.
    """
    store = RunStore.open(Path(run))
    store.check_merge("to forecast")
    store.check_kept("a forecast")
    reopen_inputs(store)
    engine = on if isinstance(on, Engine) else LocalEngine(on or torch.device("cpu"), workers)
    out = store.path / FOLDER
    folder = ResultFolder(out, "forecast.json", "predictors for", progress, hint=f"delete {out} to begin again")
    about = _about(store)
    with folder.work(about, same=[name for name in about if name != "probes"]):
        with named_write_errors(out):
            (out / "pieces").mkdir(exist_ok=True)
        pieces = [f"{index:05d}" for index in range(len(store.keys))] + ([_probes(store)] if _probed(store) else [])
        todo = [piece for piece in pieces if _read(out, piece) is None]
        work = WithPlugins(partial(_work, store.path.absolute(), json.dumps(about)))
        done = len(pieces) - len(todo)
        sizes = {piece: _bytes(store, piece) for piece in todo}
        limit = max(1, memory_budget // max(sizes.values())) if memory_budget and sizes else None
        for piece, content in engine.unordered(work, todo, limit=limit, memory=sizes.__getitem__):
            write_bytes(_file(out, piece), json.dumps(content).encode())
            done += 1
            label = PROBES if piece.startswith(PROBES) else store.keys[int(piece)].name
            folder.tell("predictors", done, len(pieces), label, event="piece")
        tables = write_tables(store)
        folder.log("complete", done=len(pieces), total=len(pieces))
    return tables


def _bytes(store: RunStore, piece: str) -> int:
    """Memory of a piece, an estimate: the updates of a matrix in float64, or the model and what scoring takes."""
    if piece.startswith(PROBES):
        return store.file.probes.memory or 0
    return (2 * store.steps + 4) * 8 * store.keys[int(piece)].parameters


def _work(run: Path, identity: str, worker: Worker, piece: str) -> dict[str, Any]:
    if piece.startswith(PROBES):
        return _measure(run, worker.device)
    store, base, sources = _open(run, identity)
    key = store.keys[int(piece)]
    weight = key.to_linear(read_tensor(base.stored(key.name)).float())
    return _to_json(interference(weight, [source.delta(key) for source in sources], store.settings.gcwm))


@lru_cache(maxsize=1)
def _open(run: Path, identity: str) -> tuple[RunStore, CheckpointIndex, list[Any]]:
    del identity
    store = RunStore.open(run)
    base = CheckpointIndex.open(store.file.base.path)
    return store, base, [entry.open(base) for entry in store.file.updates]


def _measure(run: Path, device: torch.device) -> dict[str, Any]:
    """What needs the model: rows of ``effects``, and of ``solo`` with less of every update."""
    live = LiveModel.open(run, device)
    store = live.store
    tasks = [task for task in load_tasks(store.file.probes.path) if task.split == SPLIT]
    deltas = [live.updates(("expert", step, name)) for step, name in enumerate(store.updates, start=1)]
    live.set(("base", 0, ""))
    measured, probe = Effects(live.merged, live.tokenizer, tasks, deltas), BehaviourProbe(live.tokenizer, tasks)
    effects, solo, less = [], [], STRENGTHS[0]
    for index, (name, own) in enumerate(zip(store.updates, deltas, strict=True)):
        effects += [{"update": name, "task": task} | values for task, values in measured.of(index).items()]
        live.set_updates([None if delta is None else scaled(delta, less) for delta in own])
        solo += [{"update": name, "strength": less} | row for row in probe.score(live.model, device)]
    return {"effects": effects, "solo": solo}


def write_tables(store: RunStore) -> dict[str, pd.DataFrame]:
    """Gather the pieces of a run into its tables; those whose pieces are missing are empty."""
    out, names = store.path / FOLDER, list(store.updates)
    parts = [_from_json(each) for index in range(len(store.keys)) if (each := _read(out, f"{index:05d}")) is not None]
    tables = {name: pd.DataFrame() for name in TABLES}
    if len(parts) == len(store.keys):
        of_updates, of_pairs = over_matrices(parts)
        tables["updates"] = pd.DataFrame({"update": names} | {name: v.tolist() for name, v in of_updates.items()})
        tables["pairs"] = pd.DataFrame(pair_rows(names, of_pairs), columns=["i", "j", *of_pairs])  # of one update: none
    probes = _read(out, _probes(store))
    if probes is not None:
        tables["effects"] = pd.DataFrame(probes["effects"])
        tables["solo"] = pd.DataFrame(probes["solo"])
    for name, table in tables.items():
        if len(table.columns):
            write_table(out, name, table)
    return tables


def read_tables(run: Path) -> dict[str, pd.DataFrame]:
    """The tables as stored; empty ones where nothing was computed. Raises :class:`InputError` for a damaged file."""
    files = {name: run / FOLDER / "tables" / f"{name}.parquet" for name in TABLES}
    return {name: read_table(file) if file.is_file() else pd.DataFrame() for name, file in files.items()}


def knowledge_of(updates: Sequence[str], scores: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> Knowledge:
    """What is known of a run's updates. ``scores``: its table of that name; ``tables``: of :func:`read_tables`.

    Tasks: those with an accuracy or exact match on the development split; without any, those with prompts, and without
    these, one for every update. An update claims the task of its name.
    """
    own = scores[(scores["split"] == SPLIT) & scores["model"].isin(["base", "expert"])]
    alone = own.assign(
        strength=(own["model"] == "expert") * 1.0, update=own["update"].where(own["model"] == "expert", "")
    )
    rows = pd.concat([alone, tables["solo"]], ignore_index=True) if len(tables["solo"]) else alone
    rows = rows[rows["split"] == SPLIT]
    accuracy = rows_of_metric(rows, "accuracy")[["update", "strength", "task", "split", "value"]]
    losses = rows_of_metric(rows, "nll")[["update", "strength", "task", "split", "value"]]
    keys = ["update", "strength", "task", "split"]
    solo = accuracy.rename(columns={"value": "score"}).merge(
        losses.rename(columns={"value": "nll"}), on=keys, how="left"
    )
    effects = tables["effects"] if len(tables["effects"]) else pd.DataFrame(columns=["update", "task"])
    tasks = list(dict.fromkeys(accuracy["task"])) or list(dict.fromkeys(effects["task"])) or list(updates)
    claims = [name if name in tasks else "" for name in updates]
    return Knowledge.of(updates, claims, tasks, {**tables, "solo": solo, "effects": effects}, SPLIT, "score")


def _probes(store: RunStore) -> str:
    """Name of the piece on the run's probes."""
    return f"{PROBES}-{(store.file.probes.fingerprint or '')[:16]}"


def _probed(store: RunStore) -> bool:
    return bool(store.file.probes.where) and any(task.split == SPLIT for task in load_tasks(store.file.probes.path))


def _about(store: RunStore) -> dict[str, Any]:
    file = store.file
    return {
        "format": FORMAT,
        "geometry": store.settings.gcwm.to_dict(),
        "base": file.base.fingerprint,
        "updates": [[entry.name, entry.fingerprint] for entry in file.updates],
        "probes": file.probes.fingerprint,
    }


def _file(out: Path, piece: str) -> Path:
    return out / "pieces" / f"{piece}.json"


def _read(out: Path, piece: str) -> dict[str, Any] | None:
    try:
        content = json.loads(_file(out, piece).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _to_json(part: MatrixInterference) -> dict[str, Any]:
    tensors = {name: getattr(part, name).tolist() for name in _TENSORS}
    return tensors | {"base": part.base_squared_norm, "tables": {n: t.tolist() for n, t in part.tables.items()}}


def _from_json(content: dict[str, Any]) -> MatrixInterference:
    tensors = {name: torch.tensor(content[name], dtype=torch.float64) for name in _TENSORS}
    tables = {name: torch.tensor(table, dtype=torch.float64) for name, table in content["tables"].items()}
    return MatrixInterference(base_squared_norm=content["base"], tables=tables, **tensors)


_TENSORS = ("squared_norm", "intruders", "effective_rank")
