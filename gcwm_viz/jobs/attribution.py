"""The jobs of the page Where: splitting a run's losses, and writing a model with matrices put back."""

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gcwm_viz.attribution.attribute import FOLDER
from gcwm_viz.attribution.plan import Ends, paths_of, tasks_with_loss
from gcwm_viz.checkpoints.atomic import write_json
from gcwm_viz.continual.store import RunStore
from gcwm_viz.jobs.spec import JobSpec, digest

SPLIT = "dev"
"""The split that the job splits the losses of."""


def attribution_job(run: Path) -> JobSpec:
    """Splits the loss of every task at every step, and scores the paths between the states."""
    return JobSpec(
        name=f"attribute-{digest(str(run))}",
        key="attribute",
        subject="Attribution",
        doing="Splitting every task's change of loss over the matrices.",
        arguments=["attribute", str(run)],
        folder=run / FOLDER,
    )


def is_complete(store: RunStore, attribution: pd.DataFrame) -> bool:
    """Whether the table has every path and task that the job splits. Raises :class:`InputError` for a run whose losses
    cannot be split, saying why."""
    tasks, paths = tasks_with_loss(store, SPLIT).values(), paths_of(store)
    own = attribution[attribution["split"] == SPLIT]
    wanted = {(ends.start, ends.step, task.name) for ends in paths for task in tasks}
    have = set(zip(own["start"], own["step"], own["task"], strict=True))
    return wanted <= have


def cells_json(cells: Sequence[tuple[int, str]], share: float) -> str:
    """The file of ``restore --cells`` for these (layer, family)."""
    return json.dumps({"cells": [{"layer": layer, "family": family, "share": share} for layer, family in cells]})


def restore_job(root: Path, run: Path, ends: Ends, cells: Sequence[tuple[int, str]], share: float) -> JobSpec:
    """Writes the model with these cells put back to :func:`restored_folder`."""
    # Another choice is another job, so that its ending is not told as this one's.
    name = f"restore-{digest(str(run))}-{_question(ends, cells, share)[:8]}"
    file = root / ".jobs" / name / "cells.json"
    out = restored_folder(run, ends, cells, share)
    return JobSpec(
        name=name,
        key="restore",
        subject="The writing of the model",
        doing="Scoring the model with the chosen matrices put back, and writing it.",
        arguments=[
            *("restore", str(run), "--from", str(ends.start), "--step", str(ends.step)),
            *("--cells", str(file), "--out", str(out)),
        ],
        resumable=False,
    )


def write_cells(spec: JobSpec, cells: Sequence[tuple[int, str]], share: float) -> None:
    """Write the file that a :func:`restore_job` reads."""
    file = Path(spec.arguments[spec.arguments.index("--cells") + 1])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, json.loads(cells_json(cells, share)))


def restored_folder(run: Path, ends: Ends, cells: Sequence[tuple[int, str]], share: float) -> Path:
    """Where the model goes: a folder for each choice, beside the run."""
    return run.with_name(f"{run.name}-step{ends.step}-restored-{_question(ends, cells, share)[:8]}")


def _question(ends: Ends, cells: Sequence[tuple[int, str]], share: float) -> str:
    return digest(json.dumps([ends.start, ends.step, sorted(cells), share]))
