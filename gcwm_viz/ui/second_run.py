"""A second run beside the chosen one."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.runs.highlights import Scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import ACTIVE, GLOBAL_GAP, INCOMING, STATE, STATE_GAP, STATE_NORM
from gcwm_viz.studies.two_runs import MeanDifference
from gcwm_viz.ui import trouble
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.loading import load_run
from gcwm_viz.ui.roots import run_names, run_root
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.updates.strength import in_words

SIGNALS = tuple(
    replace(
        signal,
        diverging=True,
        title=f"{signal.title}, difference",
        line=f"First run minus second; above zero = higher in the first. {signal.line}",
    )
    for signal in (ACTIVE, STATE, STATE_GAP, INCOMING, GLOBAL_GAP, STATE_NORM)
)


def choose_second(view: View) -> Run:
    """The selector of the second run, by default the one most like the first; ends the page without one."""
    root = run_root()
    others = [name for name in run_names(root) if name != view.run.path.name]
    if not others:
        trouble.stop(
            "This page compares two runs, and there is only one. This computes another: "
            "gcwm-viz lab run --sequential --out runs/seq"
        )
    likeness = [_likeness(view, root / name) for name in others]
    left, right = st.columns(2, gap="medium")
    left.markdown(f"First run: **{as_markdown(view.run.path.name)}**")
    best = likeness.index(max(likeness))
    name = right.selectbox("Second run", others, index=best, key="against", bind="query-params")
    run = load_run(root / name)
    if run.tables["matrices"].empty:
        trouble.stop("The second run has no finished step yet, so there is nothing to compare with.")
    return run


def say_what_differs(first: Run, second: Run, step: int) -> None:
    """A sentence where the two runs have not integrated the same updates by this step, and one where they took them at
    different strengths."""
    a, b = first.updates[:step], second.updates[:step]
    if set(a) != set(b):
        st.caption(
            f"By step {step} the runs have integrated different updates: {as_markdown(', '.join(a), 120)} against "
            f"{as_markdown(', '.join(b), 120)}."
        )
    elif a != b:
        st.caption("By this step both runs have integrated the same updates, in another order.")
    taken = [
        {name: strength for name, strength in run.store.file.strengths.items() if name in names}
        for run, names in ((first, a), (second, b))
    ]
    if taken[0] != taken[1]:
        words = [as_markdown(in_words(strengths), 120) if strengths else "all at 1" for strengths in taken]
        st.caption(f"The runs take updates at different strengths: {words[0]} against {words[1]}.")


def say_how_compared(differences: pd.DataFrame) -> None:
    """Whether the intervals of ``score_differences`` are paired."""
    unpaired = differences.index[~differences["paired"]]
    if differences.empty:
        st.caption("The runs have no probe task in common.")
    elif unpaired.empty:
        st.caption("Both runs answered the same examples: intervals are those of paired differences.")
    else:
        which = "all tasks" if len(unpaired) == len(differences) else as_markdown(", ".join(unpaired), 120)
        st.caption(
            f"Intervals of {which} take the two runs' scores as independent, so they are rather too wide: the runs "
            "answered different probes, or one kept no examples (`gcwm-viz score RUN --replace` does)."
        )


def headline(first: Scored, second: Scored, step: int, mean: MeanDifference) -> None:
    """Overall score of both runs at one step and the mean difference."""
    columns = st.columns(4)
    for column, scores, name in ((columns[0], first, "first"), (columns[1], second, "second")):
        course = scores.downstream.reindex([step])
        overall, error = float(course["overall"].iloc[0]), float(course["overall_se"].iloc[0])
        column.metric(f"Overall, {name} run", num(overall), help=f"{margin(error)} (95 %)")
    columns[2].metric("Mean difference", num(mean.value, signed=True), help=f"Over {mean.tasks} tasks, {first.unit}")
    columns[3].metric(
        "Its 95 % interval",
        margin(mean.se_examples),
        help=f"Over probe examples. Over tasks, as if others were drawn: {margin(mean.se_tasks)}.",
    )


def _likeness(view: View, path: Path) -> tuple[bool, bool, bool]:
    """How alike a run is: whether it is finished, has the chosen step, merged the same updates."""
    try:
        store = RunStore.open(path)  # not through the cache, from which many runs would evict this one
    except InputError:
        return False, False, False
    return store.status() == "complete", store.steps >= view.step, set(store.updates) == set(view.run.updates)
