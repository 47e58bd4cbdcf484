"""The default lab run: started on first use, watched while it computes, opened when it is done."""

from __future__ import annotations

import time
from pathlib import Path

import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.ui.loading import DEFAULT_RUN
from gcwm_viz.ui.trouble import told

JOB = "lab"


def ensure_lab_run(root: Path, *, only_run: bool) -> bool:
    """Show the state of the lab job where it matters; True while it is running.

    Starts it when nothing was ever computed below ``root`` (``only_run``: there is no other run to look at). A job
    that failed, was cancelled or died is not started again by itself: its last line and a button say what to do.
    """
    job = jobs.look(root, JOB)
    if job.status == "none" and only_run:
        _start(root)
        job = jobs.look(root, JOB)
    if job.status == "running":
        _watch(root)
        return True
    if job.status in ("failed", "cancelled", "died"):
        said = {
            "failed": "The lab run ended with an error.",
            "cancelled": "The lab run was cancelled. What it finished is kept.",
            "died": "The lab run's process ended without a message. What it finished is kept.",
        }
        st.warning(said[job.status])
        if job.message:
            st.text(job.message)
        if st.button("Start it again", key="lab-again"):
            _start(root)
            st.rerun()
    return False


def _start(root: Path) -> None:
    """Begin, or go on with, the lab run; a second window that asks at the same time finds it running."""
    run = root / DEFAULT_RUN
    arguments = ["resume", str(run)] if (run / "run.json").is_file() else ["lab", "run", "--out", str(run)]
    try:
        jobs.start(root, JOB, arguments)
    except InputError as error:
        st.error("The lab run cannot be started:")
        st.text(str(error))


@st.fragment(run_every=1.0)
@told()
def _watch(root: Path) -> None:
    job = jobs.look(root, JOB)
    if job.status != "running":
        st.rerun(scope="app")
    entry = jobs.progress(root / DEFAULT_RUN)
    done, total = int(entry.get("done") or 0), int(entry.get("total") or 0)
    st.subheader("Computing the lab run", anchor=False)
    st.markdown(
        "A small language model, six skills learned one after another, merged by geometry conflict: a real "
        "computation on this machine, once. It goes on if you close this page."
    )
    st.progress(min(done / total, 1.0) if total else 0.0, text=_progress_text(job, entry, done, total))
    st.text(str(entry.get("label") or "Starting")[:200])
    if st.button("Cancel", key="lab-cancel"):
        jobs.cancel(root, JOB, root / DEFAULT_RUN)


def _progress_text(job: jobs.Job, entry: dict[str, object], done: int, total: int) -> str:
    spent = max(0.0, time.time() - job.started) if job.started == job.started else 0.0
    if not total:
        return f"Starting, {spent:.0f} s"
    what = "checkpoints scored" if entry.get("event") == "probe" else "matrices"
    return f"{done} of {total} {what}, {spent:.0f} s so far"
