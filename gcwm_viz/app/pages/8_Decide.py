"""Which updates to integrate, and how much of each: forecasts, verdicts, measurements, and a plan to run."""

import streamlit as st

from gcwm_viz.ui import decide, decision, forecast_job, frame, left_out_job, plan_choice, trouble, trust

with frame.frame(
    "Decide", "Which updates to integrate, how much of each, which to hold: tested forecasts beside measurements."
) as view:
    if view.run.store.file.states:
        trouble.stop("This run describes a training pipeline: nothing was merged, so there is nothing to choose.")
    known = decision.known_of(view.run)
    decide.headline(known)
    forecast_job.control(view.run, known)
    decided = decision.decide(view.run, known)
    decide.table(decided)
    decide.expectations(known)

    st.header("The plan", anchor=False)
    plan_choice.section(view.run, known)
    decide.orders(known)
    if known.outlook is not None:
        trust.card(known.outlook.forecast.method, known.outlook.forecast.needs)

    st.header("What leaving one out does", anchor=False)
    left_out_job.control(view.run)
    decide.left_out(decided, view.update)
