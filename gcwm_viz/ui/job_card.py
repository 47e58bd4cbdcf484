"""One card for every job: its progress and a button to stop it, or how it ended and a button to start it."""

import math
import time
from pathlib import Path
from typing import Literal

import streamlit as st

from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.progress import duration, progress_of
from gcwm_viz.jobs.spec import JobSpec
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.trouble import shown


@st.fragment(run_every=1.0)
@shown()
def watch(root: Path, spec: JobSpec) -> None:
    """The card of a running job, drawn every second; the page is drawn anew when the job ends."""
    job = jobs.look(root, spec.name)
    if job.status != "running":
        st.rerun(scope="app")
    show_work(root, spec, job)


def show_work(root: Path, spec: JobSpec, job: jobs.Job) -> None:
    """What the job does, its progress and Cancel; call it inside a fragment."""
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.markdown(spec.doing)
    facts = [_time_spent(job)]
    if spec.folder is not None:
        progress = progress_of(spec.folder)
        st.progress(progress.share, text=progress.sentence)
        facts.append(as_markdown(progress.label, 120))
    st.caption(" · ".join(filter(None, facts)))
    stopping = jobs.cancel_asked(root, spec.name, spec.folder)
    label = "Stopping…" if stopping else "Cancel"
    # A callback runs before anything is drawn, so that this drawing says that it is stopping.
    right.button(label, key=f"{spec.key}-cancel", disabled=stopping, width="stretch", on_click=jobs.cancel,
                 args=(root, spec.name, spec.folder))  # fmt: skip


def show_ending(spec: JobSpec, job: jobs.Job) -> None:
    """How the job ended and the last line it printed; nothing where it finished or never started."""
    sentence = spec.ending(job)
    if sentence:
        st.warning(sentence)
        if job.message:
            st.text(job.message)


def start_button(
    root: Path, spec: JobSpec, label: str, *, obstacle: str = "", width: Literal["content", "stretch"] = "content"
) -> None:
    """Starts the job. obstacle: why that is impossible now, which disables the button and is its help."""
    if st.button(
        label, key=f"{spec.key}-start", disabled=bool(obstacle), help=as_markdown(obstacle, 600) or None, width=width
    ):
        jobs.start(root, spec.name, spec.arguments)
        st.rerun()


def _time_spent(job: jobs.Job) -> str:
    if job.status != "running":
        return "started from a shell"
    return "" if math.isnan(job.started) else f"running for {duration(time.time() - job.started)}"
