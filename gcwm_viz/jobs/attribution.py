"""The jobs of the page Where: splitting a run's losses, and writing a model with matrices put back."""

import json
from collections.abc import Sequence
from pathlib import Path

from gcwm_viz.attribution.attribute import FOLDER
from gcwm_viz.attribution.plan import Way
from gcwm_viz.checkpoints.atomic import write_json
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.jobs.spec import JobSpec, digest
from gcwm_viz.probes.tasks import HarnessTask, load_tasks


def attribution_job(run: Path) -> JobSpec:
    """Splits the loss of every task at every step, and scores the ways between the states."""
    return JobSpec(
        name=f"attribute-{digest(str(run))}",
        key="attribute",
        subject="Attribution",
        doing="Splitting every task's change of loss over the matrices.",
        arguments=["attribute", str(run)],
        folder=run / FOLDER,
    )


def obstacle(store: RunStore) -> str:
    """Why this run's losses cannot be split, or an empty text."""
    if store.file.probes.where is None:
        return (
            "this run has no probes, so there is no loss to split. Give it some: "
            f"python -m gcwm_viz score {store.path} --probes DIR"
        )
    try:
        tasks = load_tasks(store.file.probes.path)
    except InputError as error:
        return str(error)
    if not any(task.split == "dev" and not isinstance(task, HarnessTask) for task in tasks):
        return f"{store.file.probes.where} has no tasks with prompts, choices or texts in its folder dev."
    return ""


def cells_json(cells: Sequence[tuple[int, str]], share: float) -> str:
    """The file of ``restore --cells`` for these (layer, family)."""
    return json.dumps({"cells": [{"layer": layer, "family": family, "share": share} for layer, family in cells]})


def restore_job(root: Path, run: Path, way: Way, cells: Sequence[tuple[int, str]], share: float) -> JobSpec:
    """Writes the model with these cells put back to :func:`restored_folder`."""
    name = f"restore-{digest(str(run))}"
    file = root / ".jobs" / f"{name}-{_question(way, cells, share)}.json"
    out = restored_folder(run, way, cells, share)
    return JobSpec(
        name=name,
        key="restore",
        subject="The writing of the model",
        doing="Scoring the model with the chosen matrices put back, and writing it.",
        arguments=[
            *("restore", str(run), "--from", str(way.start), "--step", str(way.step)),
            *("--cells", str(file), "--out", str(out)),
        ],
        resumable=False,
    )


def write_cells(spec: JobSpec, cells: Sequence[tuple[int, str]], share: float) -> None:
    """Write the file that a :func:`restore_job` reads."""
    file = Path(spec.arguments[spec.arguments.index("--cells") + 1])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, json.loads(cells_json(cells, share)))


def restored_folder(run: Path, way: Way, cells: Sequence[tuple[int, str]], share: float) -> Path:
    """Where the model goes: a folder for each choice, beside the run's other results."""
    return run.with_name(f"{run.name}-step{way.step}-restored-{_question(way, cells, share)[:8]}")


def _question(way: Way, cells: Sequence[tuple[int, str]], share: float) -> str:
    return digest(json.dumps([way.start, way.step, sorted(cells), share]))
