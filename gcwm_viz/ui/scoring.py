"""Which probes a page shows: split and metric, and the figures of the score matrix."""

from functools import partial

import numpy as np
import streamlit as st

from gcwm_viz.figures import forgetting
from gcwm_viz.figures import strength as strength_figure
from gcwm_viz.figures.theme import num
from gcwm_viz.probes.metrics import UNITS, offered
from gcwm_viz.probes.scores import forgetting_matrix
from gcwm_viz.runs.examples import FORGOTTEN
from gcwm_viz.runs.highlights import Scored, scored
from gcwm_viz.runs.strength import strength_curve, strength_metric, strength_note
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import charts, selection
from gcwm_viz.ui.text import as_markdown

SPLITS = {"test": "test", "dev": "development"}
_EXAMPLES = "pages/13_Examples.py"
_CLICKED = "clicked-task"


def choose_measure(
    label: str, splits: list[str], metrics: list[str], split: str, *, key: str, widths: tuple[int, int] = (1, 3)
) -> tuple[str, str]:
    """(split, metric) from two controls; ``split`` is the one chosen at first, ``label`` the name of its control."""
    left, right = st.columns(widths)
    split = left.segmented_control(
        label, splits, default=split, required=True, format_func=SPLITS.__getitem__, key=f"{key}-split"
    )
    metric = right.segmented_control(
        "Metric", metrics, default=metrics[0], required=True, format_func=UNITS.__getitem__, key=f"{key}-metric"
    )
    return split, metric


def choose(run: Run) -> Scored | None:
    """The scores of the split and metric that two controls choose; None when the run has no scores."""
    table = run.tables["scores"]
    splits = [name for name in SPLITS if name in set(table["split"])]
    if not splits:
        return None
    split, metric = choose_measure("Split", splits, offered(table), splits[0], key="scores")
    return scored(run, split, metric)


def strength(run: Run) -> None:
    """Scores of the final state at other strengths, and the note on them, or that none were tried."""
    values = strength_curve(run)
    if values.empty:
        st.info("No other strength of this merge was tried: that takes development probes when the run is computed.")
        return
    metric, eta = strength_metric(run), None if run.store.file.eta_tried is None else run.store.settings.continual.eta
    if eta is not None:
        st.info(
            f"η = {eta:g} was chosen on these probes, the best of {len(values)} that were tried before the run. "
            "The test split decides what it is worth."
        )
    elif note := strength_note(run, metric):
        st.info(f"{note[0].upper()}{note[1:]}. It was chosen on these probes; the test split decides.")
    else:
        st.caption("No other strength scores clearly better on the development probes.")
    figure = strength_figure.strength(values, strength_curve(run, metric, "se"), UNITS[metric], eta)
    about = strength_figure.ABOUT if eta is None else strength_figure.BY_ETA
    charts.show(figure, about, values.reset_index(), key="strength")


def forgotten(scores: Scored, earlier: list[str], step: int) -> None:
    """Forgetting of the ``earlier`` tasks at ``step``. A click on a bar opens the task's lost examples, and so does a
    link."""
    if _CLICKED in st.session_state:  # a callback cannot leave its page
        lost_of = _lost_examples(st.session_state.pop(_CLICKED), scores)
        st.switch_page(_EXAMPLES, query_params=selection.parameters(**lost_of))
    lost = forgetting_matrix(scores.R, higher_is_better=scores.higher_is_better)
    row = lost.reindex([step])[[name for name in earlier if name in lost]].iloc[0].dropna()
    tasks = [str(name) for name in row.index]
    figure = forgetting.forgetting_by_task(row)
    note = "Click a bar to see which examples were lost." if tasks else ""
    charts.show(
        figure, forgetting.BY_TASK, lost.reset_index(), key="forgetting", on_select=partial(_click, tasks), note=note
    )
    if tasks:
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.caption("Lost examples of", width="content")
            for task in tasks:
                selection.link(_EXAMPLES, as_markdown(task, 24), **_lost_examples(task, scores))


def _lost_examples(task: str, scores: Scored) -> dict[str, object]:
    """Parameters of the page Examples, all of them: those of an earlier visit come back otherwise."""
    return {"task": task, "split": scores.split, "status": FORGOTTEN, "search": ""}


def _click(tasks: list[str]) -> None:
    points = st.session_state["forgetting"].get("selection", {}).get("points", [])
    if points:
        st.session_state[_CLICKED] = tasks[int(points[0]["point_index"])]


def headline(scores: Scored, step: int) -> None:
    """Figures of one step, with the change against the base."""
    course = scores.downstream
    if step not in course.index:
        st.caption("This step was not scored.")
        return
    row = course.loc[step]
    change = row["overall"] - course["overall"].get(0, np.nan)
    columns = st.columns(4)
    columns[0].metric(
        f"Overall after step {step}",
        num(row["overall"]),
        f"{num(change, signed=True)} against the base" if np.isfinite(change) else None,
        delta_color="normal" if scores.higher_is_better else "inverse",
    )
    columns[1].metric("Forgetting", num(row["forgetting"]), help="Mean over earlier tasks; positive = lost")
    columns[2].metric("Backward transfer", num(row["bwt"], signed=True), help="Negative = lost since learned")
    columns[3].metric(
        "Plasticity gap", num(row["plasticity_gap"], signed=True), help="Arriving task minus earlier ones"
    )
