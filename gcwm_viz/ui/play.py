"""The conflict map played step by step, for a talk."""

import time
from dataclasses import replace

import streamlit as st

from gcwm_viz.figures import pair_matrix
from gcwm_viz.figures.layer_grid import layer_grid
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import charts, grids
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.text import as_markdown

SECONDS = 1.8
"""Between two steps."""
_STEP, _SINCE = "play-step", "play-since"


def player(view: View, signal: Signal, limits: tuple[float, float]) -> None:
    """``signal`` over layers and the pairs beside it, with a step of their own that advances.

    limits: colour range over all steps, so that colours stay comparable while it plays.
    """
    last = int(view.run.tables["matrices"]["step"].max())
    running = st.toggle("Move on by itself", value=last > 1, key="play-on", disabled=last == 1)
    # Only the fragment runs again: the rest of the page stays unchanged.
    st.fragment(_screen, run_every=SECONDS if running else None)(view, signal, limits, last, running)


def next_step(step: int, last: int, waited: float) -> int:
    """The step to show: the next one, or the first again, once ``waited`` is nearly :data:`SECONDS`."""
    if waited < 0.8 * SECONDS:
        return min(step, last)
    return 1 if step >= last else step + 1


def _screen(view: View, signal: Signal, limits: tuple[float, float], last: int, running: bool) -> None:
    now, state = time.monotonic(), st.session_state
    if running:
        since = state.setdefault(_SINCE, now)
        step = next_step(int(state.get(_STEP, 1)), last, now - since)
        if step != state.get(_STEP):
            state[_SINCE] = now
        state[_STEP] = step
    step = st.slider("Step shown", 1, last, key=_STEP, on_change=_hold) if last > 1 else 1
    view = replace(view, step=step)
    cells = view.at_step("matrices")
    st.markdown(f'**Step {step} of {last}** adds "{as_markdown(view.update, 60)}"')
    left, right = st.columns(2, gap="medium")
    with left:
        figure = layer_grid(cells, signal, axes=view.grid, limits=limits, chosen=view.chosen, outlined=view.cells)
        charts.show(figure, signal, cells[[*grids.CELL_COLUMNS, signal.column, "reason"]], key="play-grid")
    with right:
        square = pair_matrix.pair_values(view.at_step("pairs"), view.run.updates)
        figure = pair_matrix.pair_matrix(square)
        charts.show(figure, pair_matrix.ABOUT, square.reset_index(), key="play-pairs")


def _hold() -> None:
    """A step chosen by hand stays for a whole interval."""
    st.session_state[_SINCE] = time.monotonic()
