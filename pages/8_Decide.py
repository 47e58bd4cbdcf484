"""Which updates to integrate: evidence, verdicts, the effect of leaving one out, and a plan to run."""

import pandas as pd
import streamlit as st

from gcwm_viz.figures import addition_curve, left_out_effects, left_out_matrix, pair_matrix
from gcwm_viz.ui import charts, decide, decision, frame, left_out_job

with frame.frame(
    "Decide", "Which updates to integrate, which to gate and which to leave out, with the evidence and its uncertainty."
) as view:
    decided = decision.decide(view.run)
    decide.table(decided)
    decide.explain(view, decided)

    st.header("What leaving it out does", anchor=False)
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
    decide.accountable(decided)

    st.header("Together, and in which order", anchor=False)
    left, right = st.columns(2, gap="medium")
    with left:
        top = float(decided.evidence.square.max().max())
        figure = pair_matrix.pair_matrix(decided.evidence.square, decide.PAIRS, top if top > 0 else 1.0)
        charts.show(figure, decide.PAIRS, decided.evidence.square.reset_index(), key="pairs")
    with right:
        paths = {name: decided.path(order) for name, order in decide.orders(decided).items()}
        figure = addition_curve.addition_curve(paths, decided.unit)
        both = pd.concat([path.assign(path=name) for name, path in paths.items()])
        charts.show(figure, addition_curve.ABOUT, both, key="order", note=decide.order_note(decided))

    st.header("The plan", anchor=False)
    chosen = decide.choose_plan(decided)
    text = decide.plan_text(decided, chosen)
    if text is not None:
        st.download_button(
            "Download the plan", text, "plan.yaml", "application/yaml", on_click="ignore", type="primary"
        )
        st.caption("Run it with: python -m gcwm_viz run --plan plan.yaml --out RUN")
        with st.expander("The plan as YAML"):
            st.code(text, language="yaml")
