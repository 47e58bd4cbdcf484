"""Effect of each update of a run on all tasks: the same updates merged without it, scored on the same examples.

    OUT/leave_one_out.json            the run: settings, inputs and probes by fingerprint
    OUT/merges/001/                   final merges without the first update, deleted once they are scored
    OUT/values/full.json, 001.json    values of every example of every task
    OUT/tables/leave_one_out.parquet  the table, rewritten after every update
    OUT/journal.jsonl                 progress

Of a state only what enters it is merged, and nothing where the run holds it: its own final state, and the step before
that, which is the final state without the last update. Both models of a comparison are scored on the same examples, so
the standard error of a difference is that of paired differences.
"""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.final_folder import FinalFolder
from gcwm_viz.continual.final_work import Sources, merge_finals
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.continual.session import begin_session
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.plugins.record import check_same
from gcwm_viz.probes.stored import read_examples
from gcwm_viz.probes.tasks import probes_fingerprint
from gcwm_viz.probes.values import TaskValues, difference_error, from_json, to_json
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import check_outside, reopen_inputs
from gcwm_viz.runs.run import Progress
from gcwm_viz.statistics.means import mean_error
from gcwm_viz.studies.finals import MergedState, Model, State, StoredState, scores

FOLDER = "leave_one_out"
"""Folder of the results inside the run, by default."""
FORMAT = "gcwm_viz.leave_one_out"
FULL = "full"


def leave_one_out(
    run: Path,
    out: Path | None = None,
    *,
    on: torch.device | Engine | None = None,
    workers: int | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Merge without each update in turn and compare the final models; resumes an earlier call.

    Rows: left_out, task, split, metric; value, se: score without the update; full_value, full_se: with all updates;
    difference = value − full_value and its paired difference_se; n examples. Where higher is better (em, acc) a
    positive difference means that the task is better without the update, else (nll, ppl) a negative one.
    ``on``: an engine or a device, by default the CPU; ``workers``: processes at a time on a device. ``memory_budget``:
    bytes for all workers. Raises :class:`InputError` for an unfinished run, one with fewer than two updates, without
    probes, or of a training pipeline, changed inputs, and an ``out`` that belongs to another run, and
    :class:`~gcwm_viz.continual.folder.WorkCancelledError` when OUT/cancel appears.
    """
    store = RunStore.open(run)
    check_measurable(store)
    store.check_finished()
    check_same(store.settings.method, store.file.plugins, f"run {store.path}")
    opened = reopen_inputs(store)
    out = out or run / FOLDER
    check_outside(out, opened)
    engine = on if isinstance(on, Engine) else LocalEngine(on or torch.device("cpu"), workers)
    folder = ResultFolder(out, "leave_one_out.json", "results for", progress)
    with folder.work(identity(store, FORMAT)):
        (out / "values").mkdir(exist_ok=True)
        stored = _stored_states(store)
        for label, state in stored.items():
            values = read_examples(store, state.step)
            if values and not _scores(out, label).is_file():
                _keep(out, label, values)
        merged = {label: MergedState(f, store.settings.continual) for label, f in _merges(store, out).items()}
        states: dict[str, State] = {**stored, **merged}
        todo = {label: state for label, state in states.items() if not _scores(out, label).is_file()}
        session = begin_session(out)
        merge_finals(
            out,
            session,
            [state.folder for label, state in merged.items() if label in todo],
            Sources.of(store.file),
            store.keys,
            engine,
            partial(folder.tell, "matrices", event="matrix"),
            memory_budget,
            opened.ranks,
        )
        frame = _write_table(out, store)
        done = len(states) - len(todo)
        model = Model(Sources.of(store.file), tuple(store.keys), store.file.probes)
        for label, values in scores(model, todo, engine, session, memory_budget):
            _keep(out, label, values)
            shutil.rmtree(_merge_folder(out, label), ignore_errors=True)
            frame = _write_table(out, store)
            done += 1
            what = "all updates" if label == FULL else f"without {store.updates[int(label) - 1]}"
            folder.tell("scored", done, len(states), what, event="probe")
        shutil.rmtree(out / "merges", ignore_errors=True)
        folder.log("complete", done=len(states), total=len(states))
    return frame


def check_measurable(store: RunStore) -> None:
    """Raises :class:`InputError` for a run of a training pipeline, of fewer than two updates, or without probes."""
    if store.steps < 2 and not store.file.states:
        raise InputError(f"run {store.path} has one update; leaving one out needs at least two")
    check_scorable(store, "to leave an update out of")


def check_scorable(store: RunStore, purpose: str) -> None:
    """Raises :class:`InputError` for a run of a training pipeline, which has no merge for ``purpose``, and one without
    probes."""
    store.check_merge(purpose)
    if not store.file.probes.where:
        raise InputError(f"run {store.path} was started without probes, so there is nothing to score")


def merged_anew(store: RunStore) -> range:
    """The updates, from 1, without which the final state must be merged. Without the last it is the state of the step
    before, whatever the settings, which the run holds unless it kept its last step alone."""
    return range(1, store.steps + (store.settings.continual.keep == "last"))


def _stored_states(store: RunStore) -> dict[str, StoredState]:
    """States that the run holds, by label."""
    steps = {FULL: store.steps} | {_label(step): step - 1 for step in {store.steps} - {*merged_anew(store)}}
    return {label: StoredState(store.path.absolute(), step) for label, step in steps.items()}


def _merges(store: RunStore, out: Path) -> dict[str, FinalFolder]:
    """Final merges without one update each, by label."""
    return {
        _label(left_out): FinalFolder(
            _merge_folder(out, _label(left_out)),
            tuple(name for step, name in enumerate(store.updates, start=1) if step != left_out),
            store.settings,
        )
        for left_out in merged_anew(store)
    }


def identity(store: RunStore, kind: str) -> dict[str, Any]:
    """What identifies the run that results of this ``kind``, a format, belong to; those of an earlier version have no
    precision, which was the default."""
    precision, choice = store.file.probes.dtype, store.file.choice.to_json()
    return (
        ({"targets": choice} if choice else {})
        | ({} if precision == PROBE_DTYPES[0] else {"probe_dtype": precision})
        | {
            "format": kind,
            "settings": store.settings.to_dict(),
            "base": store.file.base.fingerprint,
            "updates": [[update.name, update.fingerprint] for update in store.file.updates],
            "probes": probes_fingerprint(store.file.probes.path),
        }
    )


def _write_table(out: Path, store: RunStore) -> pd.DataFrame:
    """The table of the updates scored so far, written where there is one."""
    frame = _table(out, store) if _scores(out, FULL).is_file() else pd.DataFrame()
    if len(frame):
        write_table(out, FOLDER, frame)
    return frame


def _table(out: Path, store: RunStore) -> pd.DataFrame:
    """Rows of the updates scored so far."""
    full = _read(out, FULL)
    rows = []
    for index, name in enumerate(store.updates, start=1):
        label = _label(index)
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


def _label(left_out: int) -> str:
    """Of the state without the ``left_out``-th update, from 1, in file names."""
    return f"{left_out:03d}"


def _merge_folder(out: Path, label: str) -> Path:
    return out / "merges" / label


def _scores(out: Path, label: str) -> Path:
    return out / "values" / f"{label}.json"


def _keep(out: Path, label: str, values: list[TaskValues]) -> None:
    write_bytes(_scores(out, label), json.dumps(to_json(values)).encode())


def _read(out: Path, label: str) -> list[TaskValues]:
    return from_json(json.loads(_scores(out, label).read_bytes()))
