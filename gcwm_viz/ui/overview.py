"""Parts of the landing page: headline figures, the story of the run, what was merged."""

from functools import lru_cache

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.figures import step_trend
from gcwm_viz.figures.theme import margin, num, percent
from gcwm_viz.report.story import Sentence
from gcwm_viz.report.story import story as told
from gcwm_viz.runs.highlights import Scored, peak, scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import ACTIVE
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import charts, decision, downloads, follow, frame, selection
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.grids import show_grid
from gcwm_viz.ui.page import FILES
from gcwm_viz.ui.text import as_markdown, plain_cell, shortened
from gcwm_viz.updates.outside import OUTSIDE, ROUNDING

LAMBDA_LIMIT = 0.05
SHIFT_LIMIT = 0.02


def show(names: list[str], links: DeltaGenerator, *, told: bool) -> None:
    """The page under its heading, of one of the runs ``names``. links: of :func:`~gcwm_viz.ui.page.open_page`; told: a
    card on the page shows the progress of what computes."""
    run = frame.choose_run(names)
    view = frame.choose_view(run, links)
    follow.follow(run, told=told or view is None)
    if view is None:
        follow.nothing_yet(run)
        st.stop()

    scores = scored(run)
    headline(view, scores)
    left, right = st.columns([2, 3], gap="medium")
    with left:
        story(view)
    with right:
        if scores is None and run.status != "complete":
            show_grid(view, view.at_step("matrices"), ACTIVE)
        steps = run.tables["steps"]
        figure = step_trend.step_trend(
            steps,
            None if scores is None else scores.downstream,
            chosen_step=view.step,
            unit="score" if scores is None else scores.unit,
        )
        charts.show(figure, step_trend.ABOUT, steps, key="trend")
    cautions(view)
    downloads.report_button(run)
    inputs(view)


def headline(view: View, scores: Scored | None) -> None:
    """Five figures: final score, experts, forgetting, conflict and its peak."""
    steps = view.run.tables["steps"]
    boxes = st.columns(5)
    if scores is not None:
        course = scores.downstream
        last = course.iloc[-1]
        base = course["overall"].get(0, np.nan)
        gain = last["overall"] - base
        boxes[0].metric(
            "Overall at the end",
            num(last["overall"]),
            f"{num(gain, signed=True)} against the base" if np.isfinite(gain) else None,
            help=f"Mean {scores.unit} over all tasks, {margin(last.get('overall_se', np.nan))} (95 % over the "
            f"test probes' {num(int(scores.n.iloc[-1].sum()))} examples).",
        )
        boxes[1].metric("Single-task experts", num(scores.own.mean()), help="One model a task, an upper bound.")
        boxes[2].metric("Forgetting", num(last["forgetting"]), help="Mean over earlier tasks of the best score lost.")
    else:
        for box, name in zip(boxes, ("Overall at the end", "Single-task experts", "Forgetting"), strict=False):
            box.metric(name, "n/a", help="This run was not scored: it was started without probes.")
    mean = steps["active_conflict"].iloc[-1] if len(steps) else np.nan
    boxes[3].metric(
        "Mean conflict at the end", num(mean), help="Active conflict over all matrices; 0 same, 1 unrelated."
    )
    top = peak(view.run.tables["matrices"])
    if top is None:
        boxes[4].metric("Conflict peaks at", "n/a", help="A conflict needs two updates at one matrix.")
    else:
        boxes[4].metric(
            "Conflict peaks at",
            f"layer {top['layer']}",
            f"{as_markdown(top['family'], 24)}, step {top['step']}: {num(top['active_conflict'])}",
            delta_color="off",
            delta_arrow="off",
        )


def story(view: View) -> None:
    """The run in five sentences, each with a link to what lies behind it."""
    for number, sentence in enumerate(_told(view.run)):
        with st.container(gap=None, key=f"story-{number}"):
            _show(sentence)


def _show(sentence: Sentence) -> None:
    st.markdown(as_markdown(sentence.text, 700))
    selection.link(FILES[sentence.page], f"{sentence.link} →", **sentence.selection)


@lru_cache(maxsize=4)
def _told(run: Run) -> list[Sentence]:
    """The same run is the same object until its files change: see ``loading``."""
    return told(run, None if run.store.file.states else decision.known_of(run).outlook)


def cautions(view: View) -> None:
    """What to bear in mind with this run's figures, each with a link; nothing where there is nothing."""
    found = cautions_of(view.run)
    if not found:
        return
    st.header("Read with care", anchor=False)
    for number, sentence in enumerate(found):
        with st.container(horizontal=True, vertical_alignment="center", key=f"caution-{number}"):
            _show(sentence)


def cautions_of(run: Run) -> list[Sentence]:
    """What to bear in mind with the run's figures."""
    matrices, updates = run.tables["matrices"], run.tables["updates"]
    last = {"step": int(matrices["step"].max())}
    found = []
    if matrices["geo_shift"].median() < SHIFT_LIMIT:
        text = (
            f"The geometry branch moved {percent(matrices['geo_shift'].median())} (median) from its start: read its "
            "difference from the plain branch with care."
        )
        found.append(Sentence(text, "Solver", "See the solver", last))
    shares = matrices["lambda_share"].dropna()
    if (shares > LAMBDA_LIMIT).any():
        text = (
            f"Regularisation contributes {percent(shares.median())} of the trace (median), so conflicts read low: "
            "compare values within this run and between runs of the same λ only."
        )
        found.append(Sentence(text, "Spectra", "See the spectra", last))
    rounded = updates[updates["rounding"] > ROUNDING]
    if len(rounded):
        names = ", ".join(shortened(name, 30) for name in rounded["update"].head(3))
        text = f"Half-precision inputs blur the updates of {names} by up to {percent(rounded['rounding'].max())}."
        found.append(Sentence(text, "Spectra", "See the spectra", last))
    outside = updates[updates["outside_share"] > OUTSIDE]
    if len(outside):
        text = (
            f"Up to {percent(outside['outside_share'].max())} of an update's squared norm lies outside the merged "
            "matrices and is ignored; the table below says for which."
        )
        found.append(Sentence(text, "Scores", "See the scores", last))
    return found


ROUNDING_MAP = Signal(
    column="rounding",
    title="Rounding of the update",
    line="Estimated rounding error of a half-precision checkpoint over its update. 0 = exact, 1 = the error is as "
    "large as the update.",
    formula=r"\lVert\text{rounding error of }\Delta\rVert_F/\lVert\Delta\rVert_F",
    most=None,
    page="",
)


def _rounding(view: View) -> None:
    """How much of each update that was rounded is rounding, by matrix."""
    table = view.run.tables["rounding"]
    if table.empty:
        return
    with st.expander("Rounding of half-precision updates, by matrix"):
        names = list(dict.fromkeys(table["update"]))
        name = names[0] if len(names) == 1 else st.selectbox("Update", names, key="rounding-of")
        show_grid(view, table[table["update"] == name].assign(reason=""), ROUNDING_MAP)


def inputs(view: View) -> None:
    """What was merged, and with which settings."""
    st.header("What was merged", anchor=False)
    updates = view.run.tables["updates"]
    strength = ["strength"] if view.run.store.file.strengths else []
    columns = ["index", "update", "kind", *strength, "matrices", "norm", "outside_share", "rounding", "note"]
    st.dataframe(
        # The table's own tool bar offers a CSV, which a spreadsheet must take for data.
        updates[columns].map(plain_cell),
        hide_index=True,
        column_config={
            "index": st.column_config.NumberColumn("Order", width="small"),
            "update": st.column_config.TextColumn("Update"),
            "kind": st.column_config.TextColumn("Kind", help="A full checkpoint, an adapter, or the update itself"),
            "strength": st.column_config.NumberColumn(
                "Strength", format="%.3g", help="What the update was multiplied by before anything else; 1 = as it is"
            ),
            "matrices": st.column_config.NumberColumn("Matrices", help="Target matrices that it changes"),
            "norm": st.column_config.NumberColumn(
                "Norm", format="%.3g", help="Frobenius norm of the whole update, at its strength"
            ),
            "outside_share": st.column_config.NumberColumn(
                "Ignored share", format="percent", help="Share of the squared norm outside the target matrices; ignored"
            ),
            "rounding": st.column_config.NumberColumn(
                "Rounding",
                format="%.2g",
                help="Estimated relative rounding error of a half-precision checkpoint; None for every other form",
            ),
            "note": st.column_config.TextColumn("Note"),
        },
    )
    _rounding(view)
    with st.expander("Settings of this run"):
        settings = view.run.store.settings
        st.text(f"Method {settings.method}, preset {settings.preset}, folder {view.run.path}")
        st.json({"gcwm": settings.gcwm.to_dict(), "continual": settings.to_dict()["continual"]}, expanded=True)
