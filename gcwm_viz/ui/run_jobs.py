"""The runs of the run root: which there are, how they stand, and the jobs that work on them."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st

from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import duration, paces, run_progress
from gcwm_viz.ui import place
from gcwm_viz.ui.loading import run_names
from gcwm_viz.ui.roots import within
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.trouble import told

Status = Literal["running", "complete", "interrupted", "failed", "unreadable"]
_MAKERS = (("run",), ("lab",))
_WORDS = {"running": "running", "complete": "complete", "interrupted": "not finished", "failed": "did not start"}
_ENDED = {
    "cancelled": "Cancelled. What was finished is kept.",
    "died": "Its process ended without a message. What was finished is kept.",
}


@dataclass(frozen=True)
class Entry:
    """One run. ``about``: what it merges, or why it cannot be read. ``job``: the newest job on it, maybe ``none``."""

    name: str
    path: Path
    status: Status
    job: jobs.Job
    about: str = ""

    @property
    def note(self) -> str:
        """Why it stands still, in words; text from the job's last line may be part of it."""
        if self.status not in ("interrupted", "failed") or self.job.status in ("none", "finished"):
            return ""
        return _ENDED.get(self.job.status) or self.job.message or "It ended with an error and left no message."


def job_name(run: str) -> str:
    """Name of the job that works on the run folder ``run``: the same, where that can name a job."""
    try:
        return jobs.valid_name(run)
    except InputError:
        return f"run-{hashlib.sha256(run.encode()).hexdigest()[:16]}"


def entries(root: Path) -> list[Entry]:
    """Every run folder below ``root``, and every job that was to make one and did not get that far."""
    names = run_names(root)
    listed = [_entry(root, name) for name in names]
    for name in jobs.names(root):
        job = jobs.look(root, name)
        # A run that is being created has no run.json yet; one that never got so far has a job alone.
        if name not in names and job.command[3:4] in _MAKERS and job.status != "finished":
            status: Status = "running" if job.status == "running" else "failed"
            listed.append(Entry(name, root / name, status, job))
    return listed


def _entry(root: Path, name: str) -> Entry:
    path = root / name
    job = jobs.look(root, job_name(name))
    try:
        store = RunStore.open(within(path))
        status = store.status()
    except InputError as error:
        return Entry(name, path, "running" if job.status == "running" else "unreadable", job, str(error))
    if job.status == "running":
        status = "running"
    what = "sequential fine-tuning" if store.file.states else store.settings.method
    about = f"{what} · {store.steps} update{'' if store.steps == 1 else 's'} · {len(store.keys)} matrices"
    return Entry(name, path, "complete" if status == "complete" else status, job, about)  # type: ignore[arg-type]


def resume(root: Path, entry: Entry) -> bool:
    """Go on with a run as a job; False when one is at work already."""
    return jobs.start(root, job_name(entry.name), ["resume", str(entry.path)])


def cancel(root: Path, entry: Entry) -> None:
    """Ask whoever works on the run to stop after the matrix at hand."""
    if entry.job.status == "running":
        jobs.cancel(root, entry.job.name, entry.path)
    else:
        RunStore.open(entry.path).request_cancel()


def show_running(root: Path, listed: list[Entry]) -> None:
    """A live card for every run at work; the page is drawn anew when one ends."""
    names = tuple(entry.name for entry in listed if entry.status == "running")
    if names:
        st.header("At work", anchor=False)
        _watch(root, names)


@st.fragment(run_every=1.0)
@told()
def _watch(root: Path, names: tuple[str, ...]) -> None:
    now = [entry for entry in entries(root) if entry.status == "running"]
    if tuple(entry.name for entry in now) != names:
        st.rerun(scope="app")
    for entry in now:
        with st.container(border=True, key=f"job-{job_name(entry.name)}"):
            found = run_progress(entry.path)
            left, right = st.columns([5, 1], vertical_alignment="center")
            left.markdown(f"**{as_markdown(entry.name, 64)}**")
            st.progress(found.share, text=found.sentence)
            spent = time.time() - entry.job.started
            since = f"at work for {duration(spent)}" if spent == spent else "started from a shell"
            st.caption(f"{since} · {as_markdown(found.label, 120)}" if found.label else since)
            _workers(entry.path)
            asked = (entry.path / "cancel").exists() or jobs.cancel_asked(root, job_name(entry.name))
            if right.button(
                "Stopping…" if asked else "Cancel", key=f"cancel-{entry.name}", disabled=asked, width="stretch"
            ):
                cancel(root, entry)
                st.rerun(scope="fragment")


def _workers(run: Path) -> None:
    """Who does the work, where it is more than one worker."""
    found = paces(run)
    if len(found) < 2:
        return
    slow = sum(pace.slow for pace in found)
    label = f"{len(found)} workers" + (f", {slow} slow" if slow else "")
    with st.expander(label, key=f"workers-{run.name}"):  # stays open when the label changes
        rows = [(pace.name, pace.matrices, pace.speed, duration(pace.silent), "slow" * pace.slow) for pace in found]
        st.dataframe(
            pd.DataFrame(rows, columns=["worker", "matrices", "speed", "since its last result", " "]),
            hide_index=True,
            column_config={
                "speed": st.column_config.NumberColumn(
                    format="%.2f", help="1 = the time that all workers together take for matrices of the same shapes"
                )
            },
        )


def show_list(root: Path, listed: list[Entry]) -> None:
    """One line a run: name, what it merges, how it stands, and what can be done with it."""
    st.header("Runs", anchor=False)
    st.caption(f"In {as_markdown(root)}")
    if not listed:
        st.text("There is no run yet.")
    for entry in listed:
        with st.container(border=True, key=f"run-{job_name(entry.name)}"):
            name, about, status, act = st.columns([3, 4, 2, 2], vertical_alignment="center")
            name.markdown(f"**{as_markdown(entry.name, 64)}**")
            about.text(entry.about)
            status.text(_WORDS.get(entry.status, "cannot be read"))
            with act:
                _actions(root, entry)
            if entry.note:
                st.text(entry.note)


def _actions(root: Path, entry: Entry) -> None:
    if entry.status == "complete":
        place.link("app.py", "Open →", run=entry.name)
    elif entry.status == "interrupted":
        if st.button("Resume", key=f"resume-{entry.name}", width="stretch"):
            resume(root, entry)
            st.rerun()
    elif entry.status == "failed" and st.button("Dismiss", key=f"dismiss-{entry.name}", width="stretch"):
        jobs.forget(root, entry.job.name)
        st.rerun()
