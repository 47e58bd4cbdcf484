"""The screen of the talk that puts the worst matrices of the worst step back, before the audience's eyes."""

import time

import pandas as pd
import streamlit as st

from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.worst import Worst
from gcwm_viz.errors import InputError
from gcwm_viz.figures import restoration
from gcwm_viz.figures.task_scores import task_scores
from gcwm_viz.figures.theme import num
from gcwm_viz.probes.metrics import UNITS
from gcwm_viz.runs.highlights import Scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import trouble, undo
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.live import live_model, missing
from gcwm_viz.ui.looked import Looked
from gcwm_viz.ui.probe_files import scored_tasks
from gcwm_viz.ui.stage import ABOVE, Screen, Stage
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.undo_search import restoration_of

_UNDONE, _RESULT = "talk-undone", "talk-undo-result"


def the_undo(view: View, worst: Worst | None, scores: Scored | None) -> Screen | None:
    """None where nothing was split, or the model cannot be scored here."""
    if worst is None or scores is None or worst.step not in scores.R.index or worst.step - 1 not in scores.R.index:
        return None
    if missing(view.run) or not _scorable(view.run):
        return None
    return Screen("Undo", "The undo: what comes back", lambda stage: _draw(stage, view, worst, scores))


def _scorable(run: Run) -> bool:
    try:
        return bool(scored_tasks(run))
    except (InputError, OSError):
        return False


def _draw(stage: Stage, view: View, worst: Worst, scores: Scored) -> None:
    rows = worst.rows(view.run.tables["attribution"])
    looked = Looked(view, Ends(worst.step - 1, worst.step), worst.split, rows, (worst.task,), worst.task)
    cells = list(dict.fromkeys(worst.half))
    question = (str(view.run.path), worst, scores.split)
    undone = st.session_state.get(_UNDONE) == question
    label = "Show it before the undo" if undone else f"Undo {_these(len(cells))}"
    stage.controls.button(label, shortcut="U", type="primary", key="talk-undo", on_click=_toggle, args=(question,))
    if undone:
        result = _score(stage, looked, cells, scores.split, question)
        if result is not None:
            rows, seconds = result
            # As before the press, which keeps every task in its place.
            rows = rows.sort_values("task", key=lambda tasks: tasks.map({t: k for k, t in enumerate(scores.R)}))
            sentence = undo.sentence(rows, scores.metric, cells, looked)
            stage.say(f"{sentence} Scored on the {scores.split} split in {seconds:.1f} s.")
            figure = restoration.restoration(rows, metric=scores.metric, unit=UNITS[scores.metric])
            figure.update_layout(legend=ABOVE)
            stage.plot(figure, key="undo", alt=restoration.ABOUT.line)
            return
    before, after = (pd.Series(scores.R.loc[step]) for step in (worst.step - 1, worst.step))
    stage.say(
        f"Step {worst.step}, which adds {as_markdown(view.run.updates[worst.step - 1], 40)}, took "
        f"{as_markdown(worst.task, 40)} from **{num(before.get(worst.task))}** to **{num(after.get(worst.task))}** "
        f"({scores.unit}). What comes back when {_these(len(cells))} of {worst.matrices} matrices "
        f"{'is' if len(cells) == 1 else 'are'} put back to what they were before it?"
    )
    models = {
        name: (values, pd.Series(scores.errors.loc[step]))
        for name, values, step in (("before the step", before, worst.step - 1), ("after the step", after, worst.step))
    }
    figure = task_scores(models, unit=scores.unit)
    figure.update_layout(legend=ABOVE)
    stage.plot(figure, key="undo", alt=f"Scores of every task before and after step {worst.step}.")


def _these(cells: int) -> str:
    return "the worst" if cells == 1 else f"the {cells} worst"


def _toggle(question: object) -> None:
    st.session_state[_UNDONE] = None if st.session_state.get(_UNDONE) == question else question


def _score(
    stage: Stage, looked: Looked, cells: list[tuple[int, str]], split: str, question: object
) -> tuple[pd.DataFrame, float] | None:
    """Scores with the cells put back, and the seconds that took; kept until another question. None where it failed,
    which is said."""
    held = st.session_state.get(_RESULT)
    if held is None or held[0] != question:
        names = undo.names_of(looked)
        shares = {matrix: 1.0 for cell in cells for matrix in names[cell]}
        try:
            with (
                stage.words,
                st.spinner("Putting them back and scoring every task"),
                live_model(looked.view.run) as model,
            ):
                begin = time.perf_counter()
                rows = restoration_of(looked, model, split).score(shares)
        except InputError as error:
            with stage.words:
                trouble.show("The model cannot be scored:", error)
            return None
        held = st.session_state[_RESULT] = question, rows, time.perf_counter() - begin
    return held[1], held[2]
