"""The job that computes a run's predictors, or why there is none."""

import streamlit as st

from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.forecast import forecast_job
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import job_card
from gcwm_viz.ui.decision import Known
from gcwm_viz.ui.live import unreadable
from gcwm_viz.ui.roots import run_root

_COST = "Some seconds on the lab; of a large model, products of every two updates in every matrix"


def control(run: Run, known: Known) -> None:
    """Start or watch the job where predictors are missing."""
    root, spec = run_root(), forecast_job(run.path)
    job = jobs.look(root, spec.name)
    if job.status == "running":
        job_card.watch(root, spec)
        return
    job_card.show_ending(spec, job)
    if known.computed:
        return
    obstacle = unreadable(run)
    if len(known.signals):
        st.markdown("The run has been scored since: what each update does alone is not in the forecast yet.")
        label = "Compute the rest"
    elif known.reason:
        st.markdown(f"What updates do to each other can be computed nevertheless, as signals. {_COST}.")
        label = "Compute the signals"
    else:
        st.markdown(
            "There is no forecast yet. It needs what the updates do to each other in every matrix and, with probes, "
            f"what each does alone. {_COST}, and two scores for each update."
        )
        label = "Compute the forecast"
    job_card.start_button(root, spec, label, obstacle=obstacle)
    if obstacle:
        st.text(f"Not possible: {obstacle}")
