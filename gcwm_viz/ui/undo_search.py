"""The search for a smallest set of matrices on the page Where, and the run's step as something to undo."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from gcwm_viz.attribution.search import Trial, rank, smallest_set
from gcwm_viz.errors import InputError
from gcwm_viz.figures import restoration_search
from gcwm_viz.figures.theme import percent
from gcwm_viz.ui import charts
from gcwm_viz.ui.cell_choice import Cell, replace_by
from gcwm_viz.ui.live import live_model
from gcwm_viz.ui.looked import Looked
from gcwm_viz.ui.probe_files import scored_tasks

if TYPE_CHECKING:
    from gcwm_viz.attribution.restore import Restoration
    from gcwm_viz.probes.live import LiveModel

_SEARCH = "undo-search"


def search_form(looked: Looked, by_matrix: dict[str, Cell]) -> None:
    """What the search does, the share to recover, and its button. by_matrix: the cell of every matrix."""
    earlier = looked.of_role("earlier")
    st.markdown(
        "Puts matrices back in the order of their attribution until the share of the earlier tasks' loss is recovered, "
        f"then leaves out each that is not needed. Judged on the {looked.split} split."
    )
    target = st.slider("Share to recover", 0.1, 1.0, 0.5, step=0.05, key="undo-target")
    if st.button("Search", disabled=not earlier, help=None if earlier else "No task arrived before this path."):
        _search(looked, earlier, target, by_matrix)


def _search(looked: Looked, earlier: Sequence[str], target: float, by_matrix: dict[str, Cell]) -> None:
    trials: list[Trial] = []
    bar = st.progress(0.0, text="Scoring the first set")
    try:
        with live_model(looked.view.run) as model:
            restoration = restoration_of(looked, model, looked.split)
            for trial in smallest_set(restoration, rank(looked.rows, earlier), target):
                trials.append(trial)
                bar.progress(
                    min(len(trials) / 16, 1.0), text=f"{len(trial.matrices)} matrices: {percent(trial.recovered)}"
                )
    except InputError as error:
        st.warning("There is no such set:")
        st.text(str(error))
        return
    cells = list(dict.fromkeys(by_matrix[name] for name in trials[-1].matrices))
    st.session_state[_SEARCH] = (str(looked.view.run.path), looked.ends), target, trials, cells
    st.rerun()


def restoration_of(looked: Looked, model: "LiveModel", split: str = "") -> "Restoration":
    """The path as something to undo, judged by the tasks that scored the run; of ``split`` alone where it is given."""
    from gcwm_viz.attribution.restore import Restoration
    from gcwm_viz.probes.tasks import HarnessTask

    tasks = scored_tasks(looked.view.run).values()  # those whose scores at both ends are stored
    return Restoration(
        model, looked.ends, [t for t in tasks if not isinstance(t, HarnessTask) and split in ("", t.split)]
    )


def found(looked: Looked) -> None:
    """The last search on this path."""
    question, target, trials, cells = st.session_state.get(_SEARCH, (None, 0.0, [], []))
    if question != (str(looked.view.run.path), looked.ends):
        return
    best: Trial = trials[-1]
    longest = max((trial.matrices for trial in trials), key=len)
    leading = [trial for trial in trials if trial.matrices == longest[: len(trial.matrices)]]
    st.markdown(
        f"**The search**: {len(best.matrices)} matrices recover {percent(best.recovered)} of what the earlier tasks "
        f"lost ({percent(target)} asked for) and give up {percent(best.cost)} of the arriving task's gain; "
        f"{len(trials) - 1} sets were scored on the {looked.split} split."
    )
    st.button("Choose these", on_click=replace_by, args=(cells,))
    frame = pd.DataFrame(
        {"k": [len(t.matrices) for t in leading], "recovered": [t.recovered for t in leading],
         "cost": [t.cost for t in leading]}
    ).drop_duplicates("k")  # fmt: skip
    figure = restoration_search.restoration_search(
        frame, target=target, kept=len(best.matrices), recovered=best.recovered
    )
    charts.show(figure, restoration_search.ABOUT, frame, key="search")
