"""Leave-one-out on its page: the job that measures it, or why that is impossible."""

import streamlit as st

from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.left_out import estimate, left_out_job, obstacle
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import job_card
from gcwm_viz.ui.roots import run_root


def control(run: Run) -> None:
    """Start or watch the job that measures the effect of each update, or say why there is none."""
    root, spec = run_root(), left_out_job(run)
    job = jobs.look(root, spec.name)
    if job.status == "running":
        job_card.watch(root, spec)
        return
    job_card.show_ending(spec, job)
    measured = run.tables["leave_one_out"]["left_out"].nunique()
    if measured == run.steps and not spec.ending(job):
        return
    reason = obstacle(run)
    job_card.start_button(root, spec, "Go on measuring" if measured else "Run leave-one-out", obstacle=reason)
    if reason:
        st.text(f"Not possible: {reason}")
        return
    time = estimate(run)
    cost = f": some {time} on one core" if time else ""
    st.caption(f"Merges again without each update and scores the result{cost}. It can be cancelled.")
