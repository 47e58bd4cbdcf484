"""The default lab run: started on first use, watched while it computes, opened when it is finished."""

from pathlib import Path

import streamlit as st

from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.spec import JobSpec
from gcwm_viz.ui import job_card
from gcwm_viz.ui.roots import DEFAULT_RUN, run_names
from gcwm_viz.ui.trouble import shown


def ensure_lab_run(root: Path, *, only_run: bool) -> bool:
    """Show the lab job while it runs, or how it ended unfinished; True while it runs.

    Starts it when nothing was ever computed below ``root`` (``only_run``: there is no other run to open). A job that
    failed, was cancelled or died is started again by its button alone.
    """
    spec = _lab_job(root)
    job = jobs.look(root, spec.name)
    if job.status == "none" and only_run:
        jobs.start(root, spec.name, spec.arguments)  # a second window at the same time gets the running one
        job = jobs.look(root, spec.name)
    if job.status == "running":
        st.subheader("Computing the lab run", anchor=False)
        job_card.watch(root, spec)
        return True
    job_card.show_ending(spec, job)
    if spec.ending(job):
        job_card.start_button(root, spec, "Start it again")
    return False


@st.fragment(run_every=0.5)
@shown()
def wait(root: Path) -> None:
    """Draw the page anew once there is a run below ``root``."""
    if run_names(root):
        st.rerun(scope="app")


def _lab_job(root: Path) -> JobSpec:
    run = root / DEFAULT_RUN
    return JobSpec(
        name="lab",
        key="lab",
        subject="The lab run",
        doing="A small language model, six skills learned one after another, merged by geometry conflict: a real "
        "computation on this machine, once. It goes on if you close this page.",
        arguments=["resume", str(run)] if (run / "run.json").is_file() else ["lab", "run", "--out", str(run)],
        folder=run,
    )
