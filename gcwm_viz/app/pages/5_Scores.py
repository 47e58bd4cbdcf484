"""What the model can still do after each step."""

import streamlit as st

from gcwm_viz.figures import forgetting, representation, retention, score_heatmap
from gcwm_viz.ui import charts, frame, readings, scoring, trouble

with frame.frame(
    "Scores", "What the model can do after each step, against the base it came from and each expert."
) as view:
    scored = scoring.choose(view.run)
    if scored is None:
        if view.run.store.file.probes.where and view.run.status != "complete":
            trouble.stop("No model of this run is scored yet. Scores are drawn here as they land.")
        trouble.stop("This run was not scored: no probe results are stored. Start it with probes to see this page.")
    scoring.headline(scored, view.step)
    R, better = scored.R, scored.higher_is_better
    figure = score_heatmap.score_heatmap(R, scored.errors, scored.own, order=view.run.updates, higher_is_better=better)
    charts.show(figure, score_heatmap.ABOUT, R.reset_index(), key="scores")
    figure = retention.retention(R, scored.errors, scored.own, order=view.run.updates, unit=scored.unit)
    charts.show(figure, retention.ABOUT, R.reset_index(), key="retention", note=readings.kept(scored))

    left, right = st.columns(2, gap="medium")
    with left:
        scoring.forgotten(scored, view.run.updates[: view.step - 1], view.step)
    with right:
        charts.show(
            forgetting.forgetting_course(scored.downstream),
            forgetting.COURSE,
            scored.downstream.reset_index(),
            key="course",
        )

    st.header("Inside the model", anchor=False)
    probes = view.run.tables["representation"]
    names = list(probes["dataset"].unique())
    if names:
        probes = probes[probes["dataset"] == st.selectbox("Labelled set", names)]
    figure = representation.representation(probes, step=view.step, expert=view.update)
    charts.show(figure, representation.ABOUT, probes, key="representation")
