"""The leave-one-out job of a run: why it cannot start, the button, progress, and how it ended."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import streamlit as st

from gcwm_viz.jobs import jobs
from gcwm_viz.runs.tables import Run
from gcwm_viz.studies.leave_one_out import FOLDER
from gcwm_viz.ui.loading import run_root
from gcwm_viz.ui.trouble import told

SAID = {
    "failed": "Leave-one-out ended with an error. What it finished is kept.",
    "cancelled": "Leave-one-out was cancelled. What it finished is kept.",
    "died": "The process of leave-one-out ended without a message. What it finished is kept.",
}


def control(run: Run) -> None:
    """Start, watch or explain the job that measures what leaving each update out does."""
    name, out = _name(run), run.path / FOLDER
    job = jobs.look(run_root(), name)
    if job.status == "running":
        _watch(name, out)
        return
    if job.status in SAID:
        st.warning(SAID[job.status])
        if job.message:
            st.text(job.message)
    table = run.tables["leave_one_out"]
    done = int(table["left_out"].nunique())
    if done == run.steps and job.status not in SAID:
        return
    why = obstacle(run)
    label = "Go on measuring" if done else "Run leave-one-out"
    if st.button(label, disabled=bool(why), key="left-out-start"):
        jobs.start(run_root(), name, ["leave-one-out", str(run.path), "--device", _device(run)])
        st.rerun()
    st.caption(why or f"Merges again without each update and scores the result{_time(run)}. It can be cancelled.")


def obstacle(run: Run) -> str:
    """Why this run cannot be measured, or an empty text."""
    if run.store.file.states:
        return "This run describes a training pipeline: there is no merge to leave an update out of."
    if run.steps < 2:
        return "This run has one update; leaving one out needs at least two."
    if not run.store.file.probes.where:
        return "This run was started without probes, so there is nothing to score."
    return ""


@st.fragment(run_every=1.0)
@told()
def _watch(name: str, out: Path) -> None:
    job = jobs.look(run_root(), name)
    if job.status != "running":
        st.rerun(scope="app")
    entry = jobs.progress(out)
    done, total = int(entry.get("done") or 0), int(entry.get("total") or 0)
    scored = entry.get("event") in ("probe", "complete")
    text = f"{done} of {total} {'updates' if scored else 'matrices'}" if total else "Starting"
    st.progress(min(done / total, 1.0) if total else 0.0, text=text)
    st.text(str(entry.get("label") or "")[:200])
    if st.button("Cancel", key="left-out-cancel"):
        if out.is_dir():
            (out / "cancel").touch()
        jobs.cancel(run_root(), name, out)


def _name(run: Run) -> str:
    return f"leave-one-out-{hashlib.sha256(str(run.path).encode()).hexdigest()[:12]}"


def _device(run: Run) -> str:
    """Where the run itself was computed."""
    devices = [entry.get("device") for entry in run.store.journal() if entry["event"] == "start"]
    return devices[-1] if devices and isinstance(devices[-1], str) else "auto"


def _time(run: Run) -> str:
    cells = run.tables["matrices"].drop_duplicates("matrix")
    seconds = float(cells["seconds"].sum(skipna=False)) * (run.steps - 1)
    if math.isnan(seconds):
        return ""
    return f": some {seconds:.0f} s on one core" if seconds < 120 else f": some {seconds / 60:.0f} min on one core"
