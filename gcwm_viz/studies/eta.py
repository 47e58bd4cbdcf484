"""η of a run, chosen on the development probes: every η rescales one final merge, so that trying one takes no merge.

    RUN/eta/final/     the final merge
    RUN/eta/0.5.json   values of every example of the development tasks at that η

The folder is deleted once η is chosen.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.final_folder import FinalFolder
from gcwm_viz.continual.final_work import Sources, merge_finals
from gcwm_viz.continual.session import begin_session
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine
from gcwm_viz.probes.metrics import METRICS, headline, rows_of_metric
from gcwm_viz.probes.stored import strengths, write_scores
from gcwm_viz.probes.values import TaskValues, from_json, to_json
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.runs.run import Progress
from gcwm_viz.studies.finals import MergedState, Model, scores

GRID = (0.3, 0.5, 0.7, 1.0, 1.4)
"""η that are tried first; then two beside the best of them."""
TRIED = len(GRID) + 2
FOLDER = "eta"
PHASE = "search for η"
Values = Mapping[float, Sequence[TaskValues]]
"""Values of every example of the development tasks by η."""


def choose_eta(
    store: RunStore, engine: Engine, *, memory_budget: int | None = None, progress: Progress | None = None
) -> RunStore:
    """The run with its η: the best mean over development tasks of the headline metric (exact match or accuracy where
    they are measured), of equal ones that of the lower NLL. What was scored stays as the run's other strengths.

    Goes on where it was interrupted. Raises :class:`~gcwm_viz.errors.InputError` for changed inputs or a run that
    another process writes, and :class:`~gcwm_viz.continual.folder.WorkCancelledError` when RUN/cancel appears.
    """
    with store.lock(), store.failure_in_journal():
        opened = reopen_inputs(store)
        store.clear_cancel()
        total = len(store.keys) + TRIED

        def tell(done: int, label: str) -> None:
            store.log("eta", done=done, total=total, label=label)
            if progress:
                progress(PHASE, done, total, label)
            store.check_cancel()

        folder = FinalFolder(store.path / FOLDER / "final", tuple(store.updates), store.settings)
        session = begin_session(store.path)
        merge_finals(
            store.path,
            session,
            [folder],
            Sources.of(store.file),
            store.keys,
            engine,
            lambda done, _, label: tell(done, label),
            memory_budget,
            opened.ranks,
        )
        model = Model(Sources.of(store.file), tuple(store.keys), store.file.probes, split="dev")
        stored = _stored(store.path / FOLDER)

        def score(etas: Sequence[float]) -> Values:
            continual = {f"{eta:g}": replace(store.settings.continual, eta=eta) for eta in etas if eta not in stored}
            states = {name: MergedState(folder, each) for name, each in continual.items()}
            for name, measured in scores(model, states, engine, session, memory_budget):
                write_bytes(store.path / FOLDER / f"{name}.json", json.dumps(to_json(measured)).encode())
                stored[float(name)] = measured
                tell(len(store.keys) + len(stored), f"η = {name}")
            return {eta: stored[eta] for eta in etas}

        eta, values = searched(score)
        settled = store.settle_eta(eta, sorted(values))
        # Once run.json has η, these are read as the other strengths of the final state.
        others = [other for other in sorted(values) if other != eta]
        for checkpoint, other in zip(strengths(settled), others, strict=True):
            write_scores(settled, checkpoint, values[other], [])
        shutil.rmtree(store.path / FOLDER, ignore_errors=True)
    return settled


def searched(score: Callable[[Sequence[float]], Values]) -> tuple[float, Values]:
    """The best η, and what was measured at each that was tried. ``score``: values on the development tasks by η."""
    values = {**score(GRID)}
    values |= score(beside(means(values)))
    return best(means(values)), values


def best(means: Mapping[float, tuple[float, float]]) -> float:
    """The η of the highest (score, −NLL); undefined scores are below all others."""
    return max(sorted(means), key=lambda eta: tuple(-math.inf if math.isnan(x) else x for x in means[eta]))


def beside(means: Mapping[float, tuple[float, float]]) -> Sequence[float]:
    """Two η around the best: half way, in ratio, to the next ones that were tried, beyond the end as far as there."""
    tried = sorted(means)
    at = tried.index(best(means))
    lower = (tried[at - 1] * tried[at]) ** 0.5 if at else tried[0] ** 2 / tried[1]
    upper = (tried[at] * tried[at + 1]) ** 0.5 if at + 1 < len(tried) else tried[-1] ** 2 / tried[-2]
    return [float(f"{eta:.2g}") for eta in (lower, upper)]


def means(values: Values) -> dict[float, tuple[float, float]]:
    """(score, −NLL) over tasks by η, higher = better."""
    tables = {eta: pd.DataFrame([row for task in own for row in task.rows()]) for eta, own in values.items()}
    metric = headline(next(iter(tables.values())))
    sign = 1.0 if METRICS[metric] else -1.0

    def mean(table: pd.DataFrame, metric: str) -> float:
        rows = rows_of_metric(table, metric)["value"].to_numpy(float)
        return float(np.mean(rows)) if len(rows) else math.nan

    return {eta: (sign * mean(table, metric), -mean(table, "nll")) for eta, table in tables.items()}


def _stored(folder: Path) -> dict[float, Sequence[TaskValues]]:
    return {float(file.stem): from_json(json.loads(file.read_bytes())) for file in folder.glob("*.json")}
