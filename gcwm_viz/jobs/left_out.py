"""The ``leave-one-out`` job of a run: whether it can be started, how long it takes."""

from __future__ import annotations

import math

from gcwm_viz.jobs.progress import duration
from gcwm_viz.jobs.spec import JobSpec, digest
from gcwm_viz.runs.tables import Run
from gcwm_viz.studies.leave_one_out import FOLDER


def left_out_job(run: Run) -> JobSpec:
    """One for each run, on the device where the run itself was computed."""
    devices = [entry.get("device") for entry in run.store.journal() if entry["event"] == "start"]
    device = devices[-1] if devices and isinstance(devices[-1], str) else "auto"
    return JobSpec(
        name=f"leave-one-out-{digest(str(run.path))}",
        key="left-out",
        subject="Leave-one-out",
        doing="Merging again without each update and scoring the result.",
        arguments=["leave-one-out", str(run.path), "--device", device],
        folder=run.path / FOLDER,
    )


def obstacle(run: Run) -> str:
    """Why this run cannot be measured, or an empty text."""
    if run.store.file.states:
        return "This run describes a training pipeline: there is no merge to leave an update out of."
    if run.steps < 2:
        return "This run has one update; leaving one out needs at least two."
    if not run.store.file.probes.where:
        return "This run was started without probes, so there is nothing to score."
    return ""


def estimate(run: Run) -> str:
    """Time that the merges take on one core, in words: a run of one update fewer for each; empty where unknown."""
    cells = run.tables["matrices"].drop_duplicates("matrix")
    seconds = float(cells["seconds"].sum(skipna=False)) * (run.steps - 1)
    return "" if math.isnan(seconds) else duration(seconds)
