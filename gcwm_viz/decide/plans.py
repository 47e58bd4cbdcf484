"""Plans of a run that were measured: merged, and scored on its probes.

    RUN/plans/plans.json           the run: settings, inputs and probes by fingerprint
    RUN/plans/merges/NAME/         final merges of a plan, deleted once it is scored
    RUN/plans/values/NAME.json     the plan, and the values of every example of every task
    RUN/plans/tables/plans.parquet the table, rewritten after every plan
    RUN/plans/journal.jsonl        progress

A plan gives updates of the run a strength, on top of the one that the run itself takes them at; those that it does not
name are left out. Settings, η among them, are the run's.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.final import final_state
from gcwm_viz.continual.final_folder import FinalFolder
from gcwm_viz.continual.final_work import Sources, merge_finals
from gcwm_viz.continual.session import begin_session
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.forecast import Forecast, read
from gcwm_viz.decide.outlook import Outlook, forecast_for, measured_plans, no_forecast, outlook
from gcwm_viz.decide.predict import knowledge_of, read_tables
from gcwm_viz.decide.search import improvement, next_plan
from gcwm_viz.decide.sentences import plan_name
from gcwm_viz.engines.engine import Engine
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, scaled
from gcwm_viz.plugins.record import check_same
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.tasks import load_tasks
from gcwm_viz.probes.values import TaskValues, from_json, to_json
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.runs.run import Progress
from gcwm_viz.runs.tables import Run, open_run
from gcwm_viz.studies.finals import MergedState, Model, scores
from gcwm_viz.studies.leave_one_out import check_scorable, identity
from gcwm_viz.updates.matrices import depth

FOLDER = "plans"
FORMAT = "gcwm_viz.plans"
PURPOSE = "to plan"
"""What a merge is needed for, in messages."""
Strengths = Mapping[str, float]
"""Strength by update; one that is missing is left out."""


def measure(
    run: Path,
    plans: Sequence[Strengths],
    *,
    on: torch.device | Engine | None = None,
    workers: int | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The table ``plans`` of a finished run, after merging and scoring those of ``plans`` that it lacks.

    Raises :class:`InputError` for an unfinished run, one without probes or of a training pipeline, changed inputs, and
    a plan of other updates or without any, and
    :class:`~gcwm_viz.continual.folder.WorkCancelledError` when RUN/plans/cancel appears.
    """
    store = RunStore.open(run)
    check_scorable(store, PURPOSE)
    store.check_kept("a plan")
    store.check_finished()
    check_same(store.settings.method, store.file.plugins, f"run {store.path}")
    reopen_inputs(store)
    wanted = {name_of(own): own for own in (_checked(store, plan) for plan in plans)}
    engine = on if isinstance(on, Engine) else LocalEngine(on or torch.device("cpu"), workers)
    folder = _folder(store, progress)
    out = folder.path
    with folder.work(identity(store, FORMAT)):
        (out / "values").mkdir(exist_ok=True)
        todo = {name: plan for name, plan in wanted.items() if not _values(out, name).is_file()}
        labels = {name: {_label(u, s): (u, s) for u, s in plan.items()} for name, plan in todo.items()}
        entries = {entry.name: entry for entry in store.file.updates}
        used = {label: pair for own in labels.values() for label, pair in own.items()}
        sources = Sources(
            store.file.base.where,
            tuple((label, entries[u].where, entries[u].strength * s) for label, (u, s) in used.items()),
        )
        merges = {name: FinalFolder(out / "merges" / name, tuple(own), store.settings) for name, own in labels.items()}
        session = begin_session(out)
        tell = partial(folder.tell, "matrices", event="matrix")
        merge_finals(out, session, list(merges.values()), sources, store.keys, engine, tell, memory_budget)
        states = {name: MergedState(each, store.settings.continual) for name, each in merges.items()}
        model = Model(sources, tuple(store.keys), store.file.probes)
        for done, (name, values) in enumerate(scores(model, states, engine, session, memory_budget), start=1):
            keep(run, todo[name], values)
            shutil.rmtree(out / "merges" / name, ignore_errors=True)
            folder.tell("plans", done, len(todo), plan_name(store.updates, todo[name]), event="plan")
        shutil.rmtree(out / "merges", ignore_errors=True)
        table = write_plans(run)
        folder.log("complete", done=len(todo), total=len(todo))
    return table


def measure_live(live: LiveModel, plan: Strengths) -> None:
    """Measure one plan with a model that is in memory already, in this process; what it scored is stored as that of
    :func:`measure`. Raises :class:`InputError` as :func:`measure` does."""
    store = live.store
    check_scorable(store, PURPOSE)
    store.check_kept("a plan")
    store.check_finished()
    own = _checked(store, plan)
    places = [(store.updates.index(name), strength) for name, strength in own.items()]
    deltas = [live.updates(("expert", place + 1, store.updates[place])) for place, _ in places]
    state: list[Update | None] = []
    for k, key in enumerate(store.keys):
        parts = [(each[k], strength) for each, (_, strength) in zip(deltas, places, strict=True)]
        taken = [None if delta is None else scaled(delta, strength) for delta, strength in parts]
        state.append(final_state(key, list(own), taken, store.settings, depth(store.keys)))
    folder = _folder(store)
    with folder.work(identity(store, FORMAT)):
        live.set_updates(state)
        probe = BehaviourProbe(live.tokenizer, load_tasks(store.file.probes.path))
        (folder.path / "values").mkdir(exist_ok=True)
        keep(store.path, own, probe.measure(live.model, live.device))
        write_plans(store.path)
        folder.log("complete", done=1, total=1)


def search(
    run: Path,
    *,
    most: int | None = None,
    seconds: float | None = None,
    on: torch.device | Engine | None = None,
    workers: int | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Outlook:
    """Measure one plan after another, that of the greatest expected improvement first, and return what to expect then.

    Ends after ``most`` plans, where the next one would end after ``seconds``, or where no plan is worth its time.
    Raises :class:`InputError` as :func:`outlook_of` and :func:`measure` do.
    """
    check_searchable(RunStore.open(run))
    begin, times = time.monotonic(), list[float]()
    while True:
        now = outlook_of(open_run(run))
        late = seconds is not None and time.monotonic() - begin + float(np.mean(times or [0.0])) > seconds
        at = None if late or len(times) == most else next_plan(now.belief, now.measured)
        if at is None:
            return now
        before = time.monotonic()
        plan = now.strengths(tuple(now.belief.plans_pt[at]))
        measure(run, [plan], on=on, workers=workers, memory_budget=memory_budget, progress=progress)
        times.append(time.monotonic() - before)


def check_searchable(store: RunStore) -> None:
    """Raises :class:`InputError` for a run whose plans cannot be measured, or have no forecast to search by."""
    check_scorable(store, PURPOSE)
    store.check_kept("a plan")
    store.check_finished()
    reason = no_forecast(read(), store.settings)
    if reason:
        raise InputError(f"run {store.path}: {reason}")


def outlook_of(run: Run, forecasts: Sequence[Forecast] | None = None) -> Outlook:
    """What is expected of a run's updates, by its stored predictors and everything that was measured of it.

    ``forecasts``: by default those that ship. Raises :class:`InputError` where its predictors were not computed, and
    where no forecast fits its method or what is known.
    """
    tables = read_tables(run.path)
    if not len(tables["updates"]):
        command = f"gcwm-viz forecast {run.path}"
        raise InputError(f"run {run.path} has no predictors yet, expected `{command}` first")
    known = knowledge_of(run.updates, run.tables["scores"], tables)
    settings = run.store.settings
    trained = bool(run.store.file.states)
    forecast, reason = forecast_for(read() if forecasts is None else forecasts, known, settings, trained=trained)
    if forecast is None:
        raise InputError(f"run {run.path}: {reason}")
    eta = settings.continual.eta
    return outlook(known, forecast, eta, measured_plans(run.tables, run.updates, eta))


def outlook_if_any(run: Run) -> Outlook | None:
    """:func:`outlook_of`; None where nobody computed a forecast, or no forecast fits the run."""
    try:
        return None if run.store.file.states else outlook_of(run)
    except InputError:
        return None


def worth(now: Outlook) -> tuple[int, float] | None:
    """The plan to measure next and what is expected to be gained by knowing it; None where it is not worth it."""
    at = next_plan(now.belief, now.measured)
    return None if at is None else (at, float(improvement(now.belief, now.measured)[at]))


def keep(run: Path, plan: Strengths, values: Sequence[TaskValues]) -> None:
    """Store what a plan scored."""
    content = {"plan": dict(plan), "values": to_json(values)}
    write_bytes(_values(run / FOLDER, name_of(plan)), json.dumps(content).encode())


def write_plans(run: Path) -> pd.DataFrame:
    """The table of the plans scored so far."""
    rows: list[dict[str, Any]] = []
    for file in sorted((run / FOLDER / "values").glob("*.json")):
        content = json.loads(file.read_bytes())
        about = {"plan": file.stem, "strengths": json.dumps(content["plan"])}
        rows += [about | row for task in from_json(content["values"]) for row in task.rows()]
    frame = pd.DataFrame(rows)
    if len(frame):
        write_table(run / FOLDER, FOLDER, frame)
    return frame


def name_of(plan: Strengths) -> str:
    """A file name that depends on the strengths alone."""
    text = json.dumps(sorted((name, round(float(s), 9)) for name, s in plan.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _label(update: str, strength: float) -> str:
    return update if strength == 1 else f"{update} at {strength:.9g}"


def _checked(store: RunStore, plan: Strengths) -> dict[str, float]:
    unknown = [name for name in plan if name not in store.updates]
    if unknown:
        raise InputError(f"run {store.path} has no update {unknown[0]!r}, only {', '.join(store.updates)}")
    own = {name: float(plan[name]) for name in store.updates if plan.get(name)}
    if not own:
        raise InputError("a plan needs at least one update; without any it is the base, which every run scores")
    return own


def _folder(store: RunStore, progress: Progress | None = None) -> ResultFolder:
    out = store.path / FOLDER
    return ResultFolder(out, "plans.json", "plans of", progress, hint=f"delete {out} to begin again")


def _values(out: Path, name: str) -> Path:
    return out / "values" / f"{name}.json"
