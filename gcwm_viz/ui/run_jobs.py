"""The runs of the run root: names, status, and the jobs that compute them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import streamlit as st

from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import duration, paces
from gcwm_viz.jobs.spec import JobSpec, digest
from gcwm_viz.ui import job_card, selection
from gcwm_viz.ui.roots import run_names, within
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.trouble import shown

Status = Literal["running", "complete", "interrupted", "failed", "unreadable"]
_CREATING = (("run",), ("lab",))
"""Commands that create a run."""
_STATUS_WORDS = {
    "running": "running", "complete": "complete", "interrupted": "not finished", "failed": "did not start",
    "unreadable": "cannot be read",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One run. ``about``: what it merges, or why it cannot be read. ``job``: the newest job on it, maybe ``none``."""

    name: str
    path: Path
    status: Status
    job: jobs.Job
    about: str = ""

    @property
    def spec(self) -> JobSpec:
        """The job that goes on with it."""
        return JobSpec(
            name=self.job.name,
            key=f"work-{self.name}",
            subject="This run",
            doing=f"**{as_markdown(self.name, 64)}**",
            arguments=["resume", str(self.path)],
            folder=self.path,
            resumable=self.status != "failed",
        )


def job_name(run: str) -> str:
    """Name of the job that works on the run folder ``run``: the same, where that can name a job."""
    try:
        return jobs.valid_name(run)
    except InputError:
        return f"run-{digest(run)}"


def entries(root: Path) -> list[Entry]:
    """Every run folder below ``root``, and every job that has not created its own."""
    names = run_names(root)
    listed = [_entry(root, name) for name in names]
    for name in jobs.names(root):
        job = jobs.look(root, name)
        # A run that is being created has no run.json yet; of one that failed before, there is the job alone.
        if name not in names and job.command[3:4] in _CREATING and job.status != "finished":
            status: Status = "running" if job.status == "running" else "failed"
            listed.append(Entry(name, root / name, status, job))
    return listed


def _entry(root: Path, name: str) -> Entry:
    path = root / name
    job = jobs.look(root, job_name(name))
    try:
        store = RunStore.open(within(path))
        state = store.status()
    except InputError as error:
        return Entry(name, path, "running" if job.status == "running" else "unreadable", job, str(error))
    what = "sequential fine-tuning" if store.file.states else store.settings.method
    about = f"{what} · {store.steps} update{'' if store.steps == 1 else 's'} · {len(store.keys)} matrices"
    running = "running" in (job.status, state)
    status: Status = "running" if running else "complete" if state == "complete" else "interrupted"
    return Entry(name, path, status, job, about)


def show_running(root: Path, listed: list[Entry]) -> None:
    """A live card for every running run; the page is drawn anew when one ends."""
    names = tuple(entry.name for entry in listed if entry.status == "running")
    if names:
        st.header("At work", anchor=False)
        _watch(root, names)


@st.fragment(run_every=1.0)
@shown()
def _watch(root: Path, names: tuple[str, ...]) -> None:
    now = [entry for entry in entries(root) if entry.status == "running"]
    if tuple(entry.name for entry in now) != names:
        st.rerun(scope="app")
    for entry in now:
        with st.container(border=True, key=f"job-{entry.job.name}"):
            job_card.show_work(root, entry.spec, entry.job)
            _workers(entry.path)


def _workers(run: Path) -> None:
    """The speed of each worker, where there are several."""
    workers = paces(run)
    if len(workers) < 2:
        return
    slow = sum(pace.slow for pace in workers)
    label = f"{len(workers)} workers" + (f", {slow} slow" if slow else "")
    with st.expander(label, key=f"workers-{run.name}"):  # stays open when the label changes
        rows = [(pace.name, pace.matrices, pace.speed, duration(pace.silent), "slow" * pace.slow) for pace in workers]
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
    """One line a run: name, what it merges, status, and a button."""
    st.header("Runs", anchor=False)
    st.caption(f"In {as_markdown(root)}")
    if not listed:
        st.text("There is no run yet.")
    for entry in listed:
        with st.container(border=True, key=f"run-{entry.job.name}"):
            name, about, status, button = st.columns([3, 4, 2, 2], vertical_alignment="center")
            name.markdown(f"**{as_markdown(entry.name, 64)}**")
            about.text(entry.about)
            status.text(_STATUS_WORDS[entry.status])
            with button:
                _actions(root, entry)
            if entry.status in ("interrupted", "failed"):
                job_card.show_ending(entry.spec, entry.job)


def _actions(root: Path, entry: Entry) -> None:
    if entry.status == "complete":
        selection.link("app.py", "Open →", run=entry.name)
    elif entry.status == "interrupted":
        job_card.start_button(root, entry.spec, "Resume", width="stretch")
    elif entry.status == "failed" and st.button("Dismiss", key=f"dismiss-{entry.name}", width="stretch"):
        jobs.forget(root, entry.job.name)
        st.rerun()
