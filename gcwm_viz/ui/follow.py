"""Pages of a run that is still computing: what has landed is drawn, and drawn anew as more of it lands."""

from pathlib import Path

import pandas as pd
import streamlit as st

from gcwm_viz.figures import theme
from gcwm_viz.jobs.progress import progress_of
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import ACTIVE
from gcwm_viz.ui import charts, page
from gcwm_viz.ui.loading import stamp
from gcwm_viz.ui.trouble import shown

_SHARE = 0.15
"""Of the time, for drawing: browser and computation want the same cores, and the browser takes as long again."""
_LONGEST_S = 30.0
"""Between two drawings, however long one takes."""


def follow(run: Run, *, told: bool = False) -> None:
    """Say how much of an unfinished run is there, and draw the page anew as more of it lands, at most once a second.

    ``told``: a card on the page shows the progress already.
    """
    status = run.status
    if status == "complete":
        return
    if status == "running":
        every = min(max(1.0, page.seconds() / _SHARE), _LONGEST_S) if len(run.tables["matrices"]) else 0.5
        st.fragment(_growing, run_every=every)(run.path, stamp(run.path), told)
    elif not told:
        st.info("This run is not finished: what it has is drawn. Resume it on the page Start, or with")
        st.code(f"gcwm-viz resume {run.path}", language=None)


@shown()
def _growing(path: Path, seen: object, told: bool) -> None:
    if stamp(path) != seen:
        st.rerun(scope="app")
    if not told:
        progress = progress_of(path)
        st.progress(progress.share, text=f"Computing: {progress.sentence}. What has landed is drawn.")


def nothing_yet(run: Run) -> None:
    """Say that a run has no finished matrix yet, and how it goes on."""
    if run.status == "running":
        # A figure already, so that the browser has what draws figures when there is one.
        why = "The first matrices of this run are being merged; they are drawn here as they land."
        charts.show(theme.nothing(ACTIVE.title, why), ACTIVE, pd.DataFrame(), key="awaited")
    else:
        st.info("This run has no finished step yet, so there is nothing to draw.")
        st.text(f"Folder: {run.path}")
        st.text(f"Resume it with: gcwm-viz resume {run.path}")
