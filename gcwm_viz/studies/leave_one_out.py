"""What each update of a run does to the others: the same run without it, the final step scored on the same examples.

    OUT/leave_one_out.json            which run: settings, inputs and probes by fingerprint
    OUT/runs/001/                     the run without the first update, while it is needed
    OUT/values/full.json, 001.json    values of every example of every task
    OUT/tables/leave_one_out.parquet  the table, written anew after every update
    OUT/journal.jsonl                 progress

Both models answer the same examples, so the standard error of a difference is that of paired differences.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.claim import claim
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.continual.store import RunCancelledError, RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.tasks import Task, load_tasks, probes_fingerprint
from gcwm_viz.probes.values import TaskValues, difference_error, from_json, mean_error, to_json
from gcwm_viz.runs.inputs import Inputs, reopen_inputs
from gcwm_viz.runs.run import Progress, continue_run, create_run

FOLDER = "leave_one_out"
"""Where results lie inside the run, unless another folder is asked for."""
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
    """Merge again without each update in turn and compare the final models; goes on where an earlier call stopped.

    Rows: left_out, task, split, metric; value, se: score without the update; full_value, full_se: with all updates;
    difference = value − full_value and its paired difference_se; n examples. Where higher is better (em, acc) a
    positive difference means that the task is better off without the update, else (nll, ppl) a negative one.
    ``keep_runs``: keep the folders of the runs without an update; by default each goes once it is scored, because it
    holds tensors of every step. Raises :class:`InputError` for an unfinished run, one with fewer than two updates,
    without probes, or of a training pipeline, changed inputs, and an ``out`` that belongs to another run, and
    :class:`RunCancelledError` when OUT/cancel appears.
    """
    store = RunStore.open(run)
    tasks = _check(store)
    base = reopen_inputs(store).base
    out = out or run / FOLDER
    _claim(out, store)
    device = device or torch.device("cpu")
    account = RunStore(out, store.file)  # its lock and journal; the folder is no run
    with account.lock():
        account.clear_cancel()
        (out / "values").mkdir(exist_ok=True)
        _score(out, FULL, store, store, base, tasks, device)
        frame = _table(out, store)
        for index, name in enumerate(store.updates, start=1):
            label = f"{index:03d}"
            folder = out / "runs" / label
            if not _scores(out, label).is_file():
                merged = _merge_without(index, store, folder, device, workers, _Steps(account, index, name, progress))
                _score(out, label, merged, store, base, tasks, device)
            if not keep_runs:
                shutil.rmtree(folder, ignore_errors=True)
            frame = _table(out, store)
            write_table(out, FOLDER, frame)
            account.log("probe", done=index, total=store.steps, label=f"without {name}")
            if progress:
                progress("scored", index, store.steps, name)
        account.log("complete", done=store.steps, total=store.steps)
    return frame


class _Steps:
    """Progress of one run without an update, passed on to the journal; ends the work when a stop was asked for."""

    def __init__(self, account: RunStore, index: int, name: str, progress: Progress | None) -> None:
        self._account, self._index, self._name, self._progress = account, index, name, progress

    def __call__(self, phase: str, done: int, total: int, label: str) -> None:
        whole = self._account.steps * total
        self._account.log("matrix", done=(self._index - 1) * total + done, total=whole, label=f"without {self._name}")
        if self._progress:
            self._progress(f"without {self._name}", done, total, label)
        if (self._account.path / "cancel").exists():
            raise RunCancelledError(f"{self._account.path} was cancelled; the same command goes on with it")


def _check(store: RunStore) -> list[Task]:
    if store.file.states:
        raise InputError(f"run {store.path} describes a training pipeline: there is no merge to leave an update out of")
    if store.steps < 2:
        raise InputError(f"run {store.path} has one update; leaving one out needs at least two")
    unfinished = len(store.keys) - len(store.finished())
    if unfinished:
        raise InputError(f"run {store.path} is not finished: {unfinished} matrices are missing; use resume first")
    if not store.file.probes.where:
        raise InputError(f"run {store.path} was started without probes, so there is nothing to score")
    return load_tasks(store.file.probes.path)


def _claim(out: Path, store: RunStore) -> None:
    """Results of another run do not belong beside these."""
    # Results of an earlier version do not name the precision, which was the default.
    precision = store.file.probes.dtype
    about = ({} if precision == PROBE_DTYPES[0] else {"probe_dtype": precision}) | {
        "format": FORMAT,
        "settings": store.settings.to_dict(),
        "base": store.file.base.fingerprint,
        "updates": [[update.name, update.fingerprint] for update in store.file.updates],
        "probes": probes_fingerprint(store.file.probes.path),
    }
    claim(out, "leave_one_out.json", about, "results for")


def _merge_without(
    index: int, store: RunStore, folder: Path, device: torch.device, workers: int | None, progress: Progress
) -> RunStore:
    """The run as it would have been had the ``index``-th update (from 1) never arrived, done to its last matrix."""
    if (folder / "run.json").is_file():
        merged = RunStore.open(folder)
    else:
        others = [update for place, update in enumerate(store.file.updates, start=1) if place != index]
        inputs = Inputs(base=store.file.base.path, updates=[(update.name, update.path) for update in others])
        folder.parent.mkdir(exist_ok=True)
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
    """Put the scores of the final step of ``merged`` on disk. The model is loaded for this alone: memory is for one."""
    if _scores(out, label).is_file():
        return
    model = MergedModel(base, store, device)
    places = {key.name: place for place, key in enumerate(merged.keys)}  # fewer where only one update had a matrix
    model.set_updates(
        [merged.state(places[key.name], merged.steps) if key.name in places else None for key in store.keys]
    )
    values = BehaviourProbe(model.tokenizer, tasks).measure(model.model, device)
    write_bytes(_scores(out, label), json.dumps(to_json(values)).encode())


def _table(out: Path, store: RunStore) -> pd.DataFrame:
    """The updates scored so far."""
    full = _read(out, FULL)
    rows = []
    for index, name in enumerate(store.updates, start=1):
        label = f"{index:03d}"
        if not _scores(out, label).is_file():
            continue
        for task, without in zip(full, _read(out, label), strict=True):
            place = {"left_out": name, "task": task.name, "split": task.split}
            rows += [place | _compare(metric, without.metrics[metric], task.metrics[metric]) for metric in task.metrics]
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
