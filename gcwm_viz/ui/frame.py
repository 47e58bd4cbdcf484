"""The choice of run, step, layer and module family, with which every page about a run starts.

How the four choices are kept across pages and in links: :mod:`gcwm_viz.ui.selection`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.errors import InputError
from gcwm_viz.figures.layer_grid import COLLAPSED, GridAxes, collapsed, expert_numbers, grid_axes
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import cell_choice, follow, selection
from gcwm_viz.ui.loading import load_run
from gcwm_viz.ui.page import draw_links, open_page
from gcwm_viz.ui.roots import run_folder, run_names, run_root
from gcwm_viz.ui.text import as_markdown

_EXPERTS = (
    "A column for the same module of all experts: their mean, or the value of largest magnitude; a column for each; or "
    "one expert by its number."
)


@dataclass(frozen=True)
class View:
    """The run and what the reader has selected in it: one matrix (layer, family), and several ``cells``. ``experts``:
    how those of a layer are drawn in maps."""

    run: Run
    step: int
    layer: int
    family: str
    axes: GridAxes
    experts: str
    cells: tuple[cell_choice.Cell, ...] = ()

    @property
    def grid(self) -> GridAxes:
        """Rows and columns of maps, where experts can share a column."""
        return collapsed(self.axes, self.experts)

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


@contextmanager
def frame(title: str, line: str, *, bare: bool = False) -> Iterator[View]:
    """Open a page and yield what the reader selected. Ends the page with a sentence where there is nothing to show."""
    with open_page(title, line, bare=bare) as links:
        names = run_names(run_root())
        if not names:
            st.info("There is no run yet. The overview computes the lab run that comes with the project.")
            selection.link("app.py", "Go to the overview")
            st.stop()
        run = choose_run(names)
        view = choose_view(run, links)
        follow.follow(run, told=view is None)
        if view is None:
            follow.nothing_yet(run)
            st.stop()
        yield view


def choose_run(names: list[str]) -> Run:
    """The run selector. Raises :class:`InputError` when the chosen folder cannot be read."""
    with st.sidebar:
        st.divider()
        selection.choose("run", names, names[0])
        name = st.selectbox("Run", names, key="run")
    try:
        run = load_run(run_folder(name))
        run.tables["matrices"]
    except InputError:
        selection.show(run=name)  # it stays selected: the reader may repair it and reload
        raise
    return run


def axes_of(run: Run) -> GridAxes:
    """Of all matrices that the run will have, so that maps keep their shape while they fill."""
    keys = run.store.keys
    return grid_axes(pd.DataFrame({"layer": [key.layer for key in keys], "family": [key.family for key in keys]}))


def choose_view(run: Run, links: DeltaGenerator) -> View | None:
    """What is selected in ``run``; None while the run has no finished step. ``links``: of :func:`open_page`."""
    matrices = run.tables["matrices"]
    if matrices.empty:
        selection.show(run=run.path.name)
        return None
    axes = axes_of(run)
    last = int(matrices["step"].max())
    names = dict(zip(matrices["step"], matrices["update"], strict=True))
    step = selection.choose("step", range(1, last + 1), last)
    with st.sidebar:
        if last > 1:
            step = st.slider("Step", 1, last, key="step")
            st.caption(f'Step {step} adds "{as_markdown(names.get(step, ""), 40)}"')
        else:
            st.caption(f'Step 1, the only one, adds "{as_markdown(names.get(1, ""), 40)}"')
        st.markdown("Matrix")
        left, right = st.columns(2)
        selection.choose("layer", axes.layers, axes.layers[0])
        layer = int(left.selectbox("Layer", axes.layers, key="layer"))
        selection.choose("family", axes.families, axes.families[0])
        family = str(right.selectbox("Family", axes.families, key="family"))
        chosen: dict[str, object] = {"step": step, "layer": layer, "family": family}
        experts, numbers = "each", [str(number) for number in expert_numbers(axes)]
        if numbers:
            options = [*COLLAPSED, *numbers]
            selection.choose("experts", options, options[0])
            experts = str(st.selectbox("Experts in maps", options, key="experts", help=_EXPERTS))
            chosen["experts"] = experts
        cells = cell_choice.choose(axes)
        chosen[cell_choice.KEY] = st.session_state[cell_choice.KEY]
        cell_choice.summary()
    if selection.show(run=run.path.name, **chosen):
        draw_links(links)  # they carry the selection of this page
    return View(run=run, step=step, layer=layer, family=family, axes=axes, experts=experts, cells=cells)
