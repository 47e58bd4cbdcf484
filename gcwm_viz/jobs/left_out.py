"""The ``leave-one-out`` job of a run: whether it can start, and how long it takes."""

import math

from gcwm_viz.continual.final import steps_to_merge
from gcwm_viz.errors import InputError
from gcwm_viz.jobs.progress import duration
from gcwm_viz.jobs.spec import JobSpec, digest
from gcwm_viz.runs.tables import Run
from gcwm_viz.studies.leave_one_out import FOLDER, check_measurable, merged_anew


def left_out_job(run: Run) -> JobSpec:
    """On the device where the run itself was computed."""
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
    try:
        check_measurable(run.store)
    except InputError as error:
        return str(error)
    return ""


def estimate(run: Run) -> str:
    """Time of the merges on one core, in words, empty where unknown: in proportion to those of the run, which took its
    signals too but fewer updates at a time."""
    matrices = run.tables["matrices"].drop_duplicates("matrix")
    merges = len(merged_anew(run.store)) * len(steps_to_merge(run.store.settings, run.steps - 1))
    seconds = float(matrices["seconds"].sum(skipna=False)) * merges / run.steps
    return "" if math.isnan(seconds) else duration(seconds)
