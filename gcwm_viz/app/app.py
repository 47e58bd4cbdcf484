"""The landing page: which run, what happened, where to look.

``streamlit run app.py`` imports this file once, when the server starts, and runs it as a script for the page.
"""

import streamlit as st

from gcwm_viz.figures import step_trend
from gcwm_viz.runs.highlights import scored
from gcwm_viz.signals.catalogue import ACTIVE
from gcwm_viz.ui import charts, downloads, follow, frame, grids, lab_job, overview
from gcwm_viz.ui.loading import run_names
from gcwm_viz.ui.offline import stay_offline
from gcwm_viz.ui.roots import run_root

if __name__ != "__main__":
    stay_offline()
    app = st.App(__file__)
else:
    with frame.open_page(
        "Overview", "What happens to a language model when updates are merged into it one after another."
    ) as links:
        names = run_names(run_root())
        computing = lab_job.ensure_lab_run(run_root(), only_run=not names)
        if not names:
            follow.first_run(run_root())
            st.stop()
        run = frame.choose_run(names)
        view = frame.choose_view(run, links)
        follow.follow(run, told=computing or view is None)
        if view is None:
            follow.nothing_yet(run)
            st.stop()

        scores = scored(run)
        overview.headline(view, scores)
        left, right = st.columns([2, 3], gap="medium")
        with left:
            overview.story(view)
        with right:
            if scores is None and run.status != "complete":
                grids.show_grid(view, view.at_step("matrices"), ACTIVE)
            steps = run.tables["steps"]
            figure = step_trend.step_trend(
                steps,
                None if scores is None else scores.downstream,
                chosen_step=view.step,
                unit="score" if scores is None else scores.unit,
            )
            charts.show(figure, step_trend.ABOUT, steps, key="trend")
        overview.cautions(view)
        downloads.report_button(run)
        overview.inputs(view)
