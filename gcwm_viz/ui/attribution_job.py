"""Attribution on its page: the job that splits a run's losses, or why that is impossible."""

import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.attribution import attribution_job, is_complete
from gcwm_viz.ui import job_card
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.roots import run_root, within


def control(view: View) -> None:
    """Start or watch the job that splits the losses, or say why there is none."""
    root, spec = run_root(), attribution_job(view.run.path)
    job = jobs.look(root, spec.name)
    if job.status == "running":
        job_card.watch(root, spec)
        return
    job_card.show_ending(spec, job)
    store, table = view.run.store, view.run.tables["attribution"]
    try:
        if store.file.probes.where is not None:
            within(store.file.probes.path)  # a run folder from elsewhere may name any path
        complete = is_complete(store, table)
    except InputError as error:
        if table.empty:  # else the page shows what there is
            st.text(f"Not possible: {error}")
        return
    if complete and not spec.ending(job):
        return
    begun = "" if len(table) else "Nobody has asked yet where this run's losses changed. "
    st.markdown(
        f"{begun}This splits the change of every task's loss, at every step, over the matrices: forward and backward "
        "through the probes of the development split at some points between the two states. The guide *Why did my "
        "model forget?* says how long the lab and SmolLM2 take. It can be cancelled."
    )
    job_card.start_button(root, spec, "Go on" if len(table) else "Split the losses")
