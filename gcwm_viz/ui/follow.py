"""Pages of a run that is still computing: what has landed is drawn, and drawn anew as more of it lands."""

from pathlib import Path

import streamlit as st

from gcwm_viz.jobs.progress import progress_of
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.loading import run_names, stamp
from gcwm_viz.ui.trouble import shown

_CELLS_A_SECOND = 500
"""Of matrices and steps: a page of more of them takes longer to draw, and is drawn less often."""


def follow(run: Run, *, told: bool = False) -> None:
    """Say how much of an unfinished run is there, and draw the page anew as more of it lands, at most once a second.

    ``told``: a card on the page shows the progress already.
    """
    status = run.status
    if status == "complete":
        return
    if status == "running":
        every = max(1.0, len(run.store.keys) * run.steps / _CELLS_A_SECOND)
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


def first_run(root: Path) -> None:
    """Draw the page anew once there is a run below ``root``."""
    st.fragment(_waiting, run_every=0.5)(root)


@shown()
def _waiting(root: Path) -> None:
    if run_names(root):
        st.rerun(scope="app")


def nothing_yet(run: Run) -> None:
    """Say that a run has no finished matrix yet, and how it goes on."""
    if run.status == "running":
        st.info("The first matrices of this run are being merged; they are drawn here as they land.")
    else:
        st.info("This run has no finished step yet, so there is nothing to draw.")
        st.text(f"Folder: {run.path}")
        st.text(f"Resume it with: gcwm-viz resume {run.path}")
