"""One card for every long job: how far it is and a button to stop it, or how it ended and a button to start it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Literal

import streamlit as st

from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import duration, progress_of
from gcwm_viz.jobs.spec import JobSpec
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.trouble import told


@st.fragment(run_every=1.0)
@told()
def watch(root: Path, spec: JobSpec) -> None:
    """The card of a job at work, drawn every second; the page is drawn anew when the job ends."""
    job = jobs.look(root, spec.name)
    if job.status != "running":
        st.rerun(scope="app")
    show_work(root, spec, job)


def show_work(root: Path, spec: JobSpec, job: jobs.Job) -> None:
    """What is being done, how far it is, and Cancel; call it inside a fragment."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.markdown(spec.doing)
    facts = [_time_spent(job)]
    if spec.folder is not None:
        progress = progress_of(spec.folder)
        st.progress(progress.share, text=progress.sentence)
        facts.append(as_markdown(progress.label, 120))
    st.caption(" · ".join(filter(None, facts)))
    asked = jobs.cancel_asked(root, spec.name, spec.folder)
    label = "Stopping…" if asked else "Cancel"
    if right.button(label, key=f"{spec.key}-cancel", disabled=asked, width="stretch"):
        jobs.cancel(root, spec.name, spec.folder)  # the next tick says that it is stopping


def show_ending(spec: JobSpec, job: jobs.Job) -> None:
    """Why the job stands still and the last line it printed; nothing where its work is done or never began."""
    sentence = spec.ending(job)
    if sentence:
        st.warning(sentence)
        if job.message:
            st.text(job.message)


def start_button(
    root: Path, spec: JobSpec, label: str, *, obstacle: str = "", width: Literal["content", "stretch"] = "content"
) -> None:
    """Starts the job. obstacle: why that cannot be now; the button is grey and its help says so."""
    if st.button(label, key=f"{spec.key}-start", disabled=bool(obstacle), help=obstacle or None, width=width):
        jobs.start(root, spec.name, spec.arguments)
        st.rerun()


def _time_spent(job: jobs.Job) -> str:
    if job.status != "running":
        return "started from a shell"
    return "" if math.isnan(job.started) else f"at work for {duration(time.time() - job.started)}"
