"""Effect of each update of a run on all tasks: the same run without it, its final step scored on the same examples.

    OUT/leave_one_out.json            the run: settings, inputs and probes by fingerprint
    OUT/runs/001/                     the run without the first update, deleted once it is scored
    OUT/values/full.json, 001.json    values of every example of every task
    OUT/tables/leave_one_out.parquet  the table, rewritten after every update
    OUT/journal.jsonl                 progress

Both models are scored on the same examples, so the standard error of a difference is that of paired differences.
"""

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.plugins.record import check_same
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.tasks import Task, load_tasks, probes_fingerprint
from gcwm_viz.probes.values import TaskValues, difference_error, from_json, to_json
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import Inputs, reopen_inputs
from gcwm_viz.runs.run import Progress, continue_run, create_run
from gcwm_viz.statistics.means import mean_error

FOLDER = "leave_one_out"
"""Folder of the results inside the run, by default."""
FORMAT = "gcwm_viz.leave_one_out"
FULL = "full"


def leave_one_out(
    run: Path,
    out: Path | None = None,
    *,
    device: torch.device | None = None,
    workers: int | None = None,
    keep_runs: bool = False,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Merge again without each update in turn and compare the final models; resumes an earlier call.

    Rows: left_out, task, split, metric; value, se: score without the update; full_value, full_se: with all updates;
    difference = value − full_value and its paired difference_se; n examples. Where higher is better (em, acc) a
    positive difference means that the task is better without the update, else (nll, ppl) a negative one.
    ``keep_runs``: keep the folders of the runs without an update; by default each, with tensors of every step, is
    deleted once it is scored. Raises :class:`InputError` for an unfinished run, one with fewer than two updates,
    without probes, or of a training pipeline, changed inputs, and an ``out`` that belongs to another run, and
    :class:`~gcwm_viz.continual.folder.WorkCancelledError` when OUT/cancel appears.
    """
    store = RunStore.open(run)
    check_measurable(store)
    store.check_finished()
    check_same(store.settings.method, store.file.plugins, f"run {store.path}")
    tasks = load_tasks(store.file.probes.path)
    base = reopen_inputs(store).base
    out = out or run / FOLDER
    device = device or torch.device("cpu")
    folder = ResultFolder(out, "leave_one_out.json", "results for", progress)
    with folder.work(_about(store)):
        (out / "values").mkdir(exist_ok=True)
        _score(out, FULL, store, store, base, tasks, device)
        frame = _table(out, store)
        for index, name in enumerate(store.updates, start=1):
            label = f"{index:03d}"
            run_folder = out / "runs" / label
            if not _scores(out, label).is_file():
                tell = partial(_tell, folder, store, index)
                merged = _merge_without(index, store, run_folder, device, workers, tell)
                _score(out, label, merged, store, base, tasks, device)
            if not keep_runs:
                shutil.rmtree(run_folder, ignore_errors=True)
            frame = _table(out, store)
            write_table(out, FOLDER, frame)
            folder.log("probe", done=index, total=store.steps, label=f"without {name}")
            folder.tell("scored", index, store.steps, name)
        folder.log("complete", done=store.steps, total=store.steps)
    return frame


def _tell(folder: ResultFolder, store: RunStore, index: int, phase: str, done: int, total: int, label: str) -> None:
    """Progress of the run without the ``index``-th update; the journal counts matrices of all these runs."""
    without = f"without {store.updates[index - 1]}"
    folder.log("matrix", done=(index - 1) * total + done, total=store.steps * total, label=without)
    folder.tell(without, done, total, label)


def check_measurable(store: RunStore) -> None:
    """Raises :class:`InputError` for a run of a training pipeline, of fewer than two updates, or without probes."""
    if store.file.states:
        raise InputError(f"run {store.path} describes a training pipeline: there is no merge to leave an update out of")
    if store.steps < 2:
        raise InputError(f"run {store.path} has one update; leaving one out needs at least two")
    if not store.file.probes.where:
        raise InputError(f"run {store.path} was started without probes, so there is nothing to score")


def _about(store: RunStore) -> dict[str, Any]:
    """What identifies the run; results of an earlier version have no precision, which was the default."""
    precision = store.file.probes.dtype
    return ({} if precision == PROBE_DTYPES[0] else {"probe_dtype": precision}) | {
        "format": FORMAT,
        "settings": store.settings.to_dict(),
        "base": store.file.base.fingerprint,
        "updates": [[update.name, update.fingerprint] for update in store.file.updates],
        "probes": probes_fingerprint(store.file.probes.path),
    }


def _merge_without(
    index: int, store: RunStore, folder: Path, device: torch.device, workers: int | None, progress: Progress
) -> RunStore:
    """The complete run without the ``index``-th update, counted from 1."""
    if (folder / "run.json").is_file():
        merged = RunStore.open(folder)
    else:
        updates = [(u.name, u.path) for step, u in enumerate(store.file.updates, start=1) if step != index]
        inputs = Inputs(base=store.file.base.path, updates=updates)
        merged = create_run(inputs, folder, store.settings, f"without {store.updates[index - 1]}")
    if merged.status() != "complete":
        continue_run(merged, device, workers=workers, progress=progress)
    return merged


def _score(
    out: Path,
    label: str,
    merged: RunStore,
    store: RunStore,
    base: CheckpointIndex,
    tasks: Sequence[Task],
    device: torch.device,
) -> None:
    """Store the scores of the final step of ``merged``; the model is in memory only meanwhile."""
    if _scores(out, label).is_file():
        return
    model = MergedModel(base, store, device)
    indices = {key.name: index for index, key in enumerate(merged.keys)}  # fewer where only one update had a matrix
    model.set_updates(
        [merged.state(indices[key.name], merged.steps) if key.name in indices else None for key in store.keys]
    )
    values = BehaviourProbe(model.tokenizer, tasks).measure(model.model, device)
    write_bytes(_scores(out, label), json.dumps(to_json(values)).encode())


def _table(out: Path, store: RunStore) -> pd.DataFrame:
    """Rows of the updates scored so far."""
    full = _read(out, FULL)
    rows = []
    for index, name in enumerate(store.updates, start=1):
        label = f"{index:03d}"
        if not _scores(out, label).is_file():
            continue
        for task, without in zip(full, _read(out, label), strict=True):
            row = {"left_out": name, "task": task.name, "split": task.split}
            rows += [row | _compare(metric, without.metrics[metric], task.metrics[metric]) for metric in task.metrics]
    return pd.DataFrame(rows)


def _compare(metric: str, without: Tensor, full: Tensor) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": float(without.mean()),
        "se": mean_error(without),
        "full_value": float(full.mean()),
        "full_se": mean_error(full),
        "difference": float((without - full).mean()),
        "difference_se": difference_error(metric, without - full),
        "n": len(full),
    }


def _scores(out: Path, label: str) -> Path:
    return out / "values" / f"{label}.json"


def _read(out: Path, label: str) -> list[TaskValues]:
    return from_json(json.loads(_scores(out, label).read_bytes()))
