"""Which updates to integrate, and how much of each: forecasts, verdicts, measurements, and a plan to run."""

import streamlit as st

from gcwm_viz.figures import expected_levels, forecast_measured, left_out_effects, left_out_matrix, plan_curve
from gcwm_viz.ui import charts, decide, decision, forecast_job, frame, left_out_job, plan_choice, trust

with frame.frame(
    "Decide", "Which updates to integrate, how much of each, which to hold: tested forecasts beside measurements."
) as view:
    forecast_job.control(view.run)
    decided = decision.decide(view.run)
    decide.headline(decided)
    decide.table(decided)
    now = decided.now
    if now is not None and not now.outside:
        left, right = st.columns(2, gap="medium")
        with left:
            rows = decide.level_rows(now)
            charts.show(expected_levels.expected_levels(rows), expected_levels.ABOUT, rows, key="levels")
        with right:
            rows = decide.measured_rows(now)
            charts.show(
                forecast_measured.forecast_measured(rows), forecast_measured.ABOUT, rows, key="forecast-measured"
            )

    st.header("The plan", anchor=False)
    chosen = plan_choice.choose(decided)
    plan_choice.outcome(decided, chosen)
    plan_choice.search(decided)
    text = decide.plan_text(decided, chosen)
    if text is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.download_button(
                "Download the plan", text, "plan.yaml", "application/yaml", on_click="ignore", type="primary"
            )
            st.caption("Run it with: python -m gcwm_viz run --plan plan.yaml --out RUN")
        with st.expander("The plan as YAML"):
            st.code(text, language="yaml")
    if now is not None:
        if not now.outside:
            paths = decide.orders(decided, now)
            charts.show(plan_curve.plan_curve(paths), plan_curve.ABOUT, decide.joined(paths), key="order")
        trust.card(now.forecast.method, now.forecast.needs)

    st.header("What leaving one out does", anchor=False)
    left_out_job.control(view.run)
    left, right = st.columns(2, gap="medium")
    with left:
        effects = decide.effects(decided, view.update)
        figure = left_out_effects.left_out_effects(effects, decided.unit)
        charts.show(figure, left_out_effects.ABOUT, effects, key="left-out")
    with right:
        change, errors = (decide.left_out_square(decided, name) for name in ("difference", "difference_se"))
        figure = left_out_matrix.left_out_matrix(change, errors, decided.unit)
        charts.show(figure, left_out_matrix.ABOUT, change.reset_index(), key="left-out-all")
