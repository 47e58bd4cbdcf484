"""Two runs side by side: where their signals differ, and which one keeps more."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from gcwm_viz.figures import score_difference, theme
from gcwm_viz.figures.layer_grid import grid_axes
from gcwm_viz.runs.highlights import scored
from gcwm_viz.studies.two_runs import example_differences, matrix_differences, mean_difference, score_differences
from gcwm_viz.ui import charts, frame, grids, scoring, second_run, trouble

with frame.frame("Two runs", "The same step of two runs: how their signals and their scores differ.") as view:
    other = second_run.choose_second(view)
    second_run.say_what_differs(view.run, other, view.step)

    st.header("Scores", anchor=False)
    first = scoring.choose(view.run)
    second = None if first is None else scored(other, first.split, first.metric)
    if first is None or second is None:
        st.info("Scores need probes in both runs, on the same split; at least one run has none.")
    else:
        pairs = example_differences(view.run, other, view.step, first.split, first.metric)
        differences = score_differences(first, second, view.step, pairs)
        mean = mean_difference(differences)
        second_run.headline(first, second, view.step, mean)
        second_run.say_how_compared(differences)
        left, right = st.columns(2, gap="medium")
        with left:
            figure = score_difference.score_difference(differences, (mean.value, mean.se_examples), first.unit)
            charts.show(figure, score_difference.BY_TASK, differences.reset_index(), key="score-difference")
        with right:
            courses = {f"1 · {view.run.path.name}": first.downstream, f"2 · {other.path.name}": second.downstream}
            figure = score_difference.two_courses(courses, first.unit)
            both = pd.concat({"first": first.downstream, "second": second.downstream}, names=["run"]).reset_index()
            charts.show(figure, score_difference.COURSE, both, key="courses")

    st.header("Signals", anchor=False)
    matrices = other.tables["matrices"]
    columns = [signal.column for signal in second_run.SIGNALS]
    cells = matrix_differences(view.at_step("matrices"), matrices[matrices["step"] == view.step], columns)
    if cells.empty:
        trouble.stop("The runs share no matrix at this step: choose an earlier step, or a run of the same model.")
    st.caption(f"Step {view.step}: {theme.num(len(cells))} matrices are in both runs. Click one to choose it.")
    grids.show_grids(replace(view, axes=grid_axes(cells)), cells, second_run.SIGNALS)
