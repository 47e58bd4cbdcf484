"""What every page starts with: page settings, navigation, and the choice of run, step, layer and module family.

Each page must stand alone: after a server start, the first deep link to a page runs it without app.py. The four
choices are bound to query parameters, so they survive page switches and reloads and make every view a link.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.figures.layer_grid import GridAxes, grid_axes
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.tables import Run
from gcwm_viz.ui.loading import load_run, run_names, run_root
from gcwm_viz.ui.offline import stay_offline
from gcwm_viz.ui.roots import run_folder
from gcwm_viz.ui.text import as_markdown

PAGES = {
    "app.py": "Overview",
    "pages/0_Start.py": "Start",
    "pages/1_Conflict.py": "Conflict",
    "pages/2_Spectra.py": "Spectra",
    "pages/3_Gate.py": "Gate",
    "pages/4_Solver.py": "Solver",
    "pages/5_Scores.py": "Scores",
    "pages/7_Two_runs.py": "Two runs",
    "pages/8_Decide.py": "Decide",
    "pages/9_Talk.py": "Talk",
    "pages/10_Compare.py": "Compare",
    "pages/11_Explain.py": "Explain",
}


@dataclass(frozen=True)
class View:
    """The run and the place in it that the reader looks at."""

    run: Run
    step: int
    layer: int
    family: str
    axes: GridAxes

    @property
    def config(self) -> GCWMConfig:
        """Per-matrix settings of the run."""
        return self.run.store.settings.gcwm

    @property
    def chosen(self) -> tuple[int, str]:
        return self.layer, self.family

    @property
    def update(self) -> str:
        """Name of the update that arrives at the step."""
        return self.run.updates[self.step - 1]

    def at_step(self, table: str) -> pd.DataFrame:
        """Rows of a table at the chosen step."""
        rows = self.run.tables[table]
        return rows[rows["step"] == self.step]

    def at_matrix(self, table: str) -> pd.DataFrame:
        """Rows of a table for the chosen matrix at the chosen step; empty when the run has no such matrix."""
        rows = self.run.tables[table]
        keep = (rows["step"] == self.step) & (rows["layer"] == self.layer) & (rows["family"] == self.family)
        return rows[keep]

    @property
    def matrix(self) -> pd.Series | None:
        """The ``matrices`` row of the chosen matrix and step, or None when the run has no such matrix."""
        rows = self.at_matrix("matrices")
        return rows.iloc[0] if len(rows) else None


def open_page(title: str, line: str, *, bare: bool = False) -> None:
    """Page settings, navigation and heading; the part of :func:`frame` that needs no run.

    bare: no heading and a folded side bar, for a page that is shown to a room.
    """
    sidebar: Literal["collapsed", "expanded"] = "collapsed" if bare else "expanded"
    st.set_page_config(page_title=f"{title} · GCWM", layout="wide", initial_sidebar_state=sidebar)
    with st.sidebar:
        st.markdown("**Geometry conflict**")
        for page, name in PAGES.items():
            st.page_link(page, label=name)
    stay_offline()
    if not is_loopback(st.get_option("server.address")):
        st.warning(
            "This server answers other machines and asks nobody who they are. Put a proxy with a login before it, or "
            "start it with server.address localhost; SECURITY.md says how."
        )
    if not bare:
        st.title(title, anchor=False)
        st.markdown(line)


def is_loopback(address: str | None) -> bool:
    """Whether only this machine reaches a server bound to ``address``; none or an empty one means every interface."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address((address or "").strip("[]")).is_loopback
    except ValueError:
        return False


def frame(title: str, line: str, *, bare: bool = False) -> View:
    """Open a page and return what the reader chose. Ends the page with a sentence where there is nothing to show."""
    open_page(title, line, bare=bare)
    names = run_names(run_root())
    if not names:
        st.info("There is no run yet. The overview computes the lab run that comes with the project.")
        st.page_link("app.py", label="Go to the overview")
        st.stop()
    run = choose_run(names)
    view = choose_place(run)
    if view is None:
        missing(run)
        st.stop()
    return view


def choose_run(names: list[str]) -> Run:
    """The run selector; ends the page with a sentence when the chosen folder cannot be read."""
    with st.sidebar:
        st.divider()
        name = st.selectbox("Run", names, key="run", bind="query-params")
    try:
        run = load_run(run_folder(name))
        run.tables["matrices"]
    except InputError as error:
        st.error("This run cannot be read:")
        st.text(str(error))
        st.stop()
    return run


def choose_place(run: Run) -> View | None:
    """Step, layer and family of ``run``; None while the run has no finished step."""
    matrices = run.tables["matrices"]
    if matrices.empty:
        return None
    axes = grid_axes(matrices)
    last = int(matrices["step"].max())
    names = dict(zip(matrices["step"], matrices["update"], strict=True))
    with st.sidebar:
        if last > 1:
            step = st.slider("Step", 1, last, last, key="step", bind="query-params")
            st.caption(f"brings {as_markdown(names.get(step, ''), 40)}")
        else:
            step = 1
            st.caption(f"Step 1, the only one: {as_markdown(names.get(1, ''), 40)}")
        st.markdown("Matrix")
        left, right = st.columns(2)
        layer = left.selectbox("Layer", axes.layers, key="layer", bind="query-params")
        family = right.selectbox("Family", axes.families, key="family", bind="query-params")
    return View(run=run, step=step, layer=int(layer), family=str(family), axes=axes)


def missing(run: Run) -> None:
    """Say what an unfinished run lacks."""
    st.info("This run has no finished step yet, so there is nothing to draw: its tables are written at the end.")
    st.text(f"Folder: {run.path}")
    st.text(f"Resume it with: python -m gcwm_viz resume {run.path}")
