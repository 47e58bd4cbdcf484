"""The job that computes a run's predictors, or why there is none."""

import streamlit as st

from gcwm_viz.decide.predict import read_tables
from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.forecast import forecast_job
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import job_card
from gcwm_viz.ui.roots import run_root, within


def control(run: Run) -> None:
    """Start or watch the job where predictors are missing."""
    root, spec = run_root(), forecast_job(run.path)
    job = jobs.look(root, spec.name)
    if job.status == "running":
        job_card.watch(root, spec)
        return
    job_card.show_ending(spec, job)
    if len(read_tables(run.path)["updates"]):
        return
    try:
        for entry in (run.store.file.base, *run.store.file.updates):
            within(entry.path)  # a run folder from elsewhere may name any path
        reason = "it describes a training pipeline" if run.store.file.states else ""
    except InputError as error:
        reason = str(error)
    if reason:
        st.text(f"No forecast is possible: {reason}")
        return
    st.markdown(
        "A forecast needs predictors that this run does not have yet: what updates do to each other in every matrix, "
        "and, with probes, what each does alone. Some seconds on the lab; of a large model, singular values of every "
        "update and two scores each."
    )
    job_card.start_button(root, spec, "Compute the forecast")
