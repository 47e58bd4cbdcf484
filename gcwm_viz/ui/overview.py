"""Parts of the landing page: headline figures, where to look next, what was merged."""

from dataclasses import dataclass

import numpy as np
import streamlit as st

from gcwm_viz.attribution.worst import worst_step
from gcwm_viz.figures.layer_grid import short_family
from gcwm_viz.figures.theme import margin, num, percent
from gcwm_viz.probes.scores import forgetting_matrix
from gcwm_viz.runs.highlights import Scored, peak
from gcwm_viz.runs.strength import strength_note
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import selection
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.grids import show_grid
from gcwm_viz.ui.text import as_markdown, plain_cell
from gcwm_viz.updates.outside import OUTSIDE, ROUNDING

LAMBDA_LIMIT = 0.05
SHIFT_LIMIT = 0.02


@dataclass(frozen=True)
class Pointer:
    """A finding in Markdown, names escaped, and a link: the page, its label and what to select there."""

    text: str
    page: str
    link: str
    selection: dict[str, str]


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


def pointers(run: Run, scores: Scored | None) -> list[Pointer]:
    """What to look at next in this run, most important first."""
    matrices, updates = run.tables["matrices"], run.tables["updates"]
    last = str(int(matrices["step"].max()))
    findings = []
    top = peak(matrices)
    if top is not None:
        at = {"step": str(top["step"]), "layer": str(top["layer"]), "family": str(top["family"])}
        text = (
            f"Updates disagree most in layer {top['layer']}, {as_markdown(top['family'], 40)}, at step {top['step']}: "
            f"active conflict {num(top['active_conflict'])}."
        )
        findings.append(Pointer(text, "pages/1_Conflict.py", "Open this matrix", at))
    if scores is not None and len(scores.R):
        lost = forgetting_matrix(scores.R, higher_is_better=scores.higher_is_better).iloc[-1].dropna()
        if len(lost) and lost.max() > 0:
            text = (
                f"The task that lost most is {as_markdown(lost.idxmax(), 40)}: its score is {num(lost.max())} "
                f"{'below' if scores.higher_is_better else 'above'} its best earlier one."
            )
            findings.append(Pointer(text, "pages/5_Scores.py", "See its retention", {"step": last}))
    worst = worst_step(run.tables["attribution"], run.updates)
    if worst is not None:
        named = [(f"{layer} " if layer >= 0 else "", family) for layer, family in dict.fromkeys(worst.half[:5])]
        cells = ", ".join(f"{layer}{as_markdown(short_family(family), 24)}" for layer, family in named)
        text = (
            f"Step {worst.step} raised the loss of {as_markdown(worst.task, 40)} most, by {num(worst.change)} nats; "
            f"half of the harm came from {len(worst.half)} of {worst.matrices} matrices ({cells}"
            f"{', …' if len(worst.half) > 5 else ''})."
        )
        findings.append(Pointer(text, "pages/12_Where.py", "See where, and undo it", {"step": str(worst.step)}))
    if note := strength_note(run):
        text = f"{note[0].upper()}{note[1:]}."
        findings.insert(0, Pointer(text, "pages/5_Scores.py", "See the curve", {"step": last}))
    if matrices["geo_shift"].median() < SHIFT_LIMIT:
        text = (
            f"The geometry branch moved {percent(matrices['geo_shift'].median())} (median) from its start: read its "
            "difference from the plain branch with care."
        )
        findings.append(Pointer(text, "pages/4_Solver.py", "See the solver", {"step": last}))
    shares = matrices["lambda_share"].dropna()
    if (shares > LAMBDA_LIMIT).any():
        text = (
            f"Regularisation contributes {percent(shares.median())} of the trace (median), so conflicts read low: "
            "compare values within this run and between runs of the same λ only."
        )
        findings.append(Pointer(text, "pages/2_Spectra.py", "See the spectra", {"step": last}))
    rounded = updates[updates["rounding"] > ROUNDING]
    if len(rounded):
        names = ", ".join(as_markdown(name, 30) for name in rounded["update"].head(3))
        text = f"Half-precision inputs blur the updates of {names} by up to {percent(rounded['rounding'].max())}."
        findings.append(Pointer(text, "pages/2_Spectra.py", "See the spectra", {"step": last}))
    outside = updates[updates["outside_share"] > OUTSIDE]
    if len(outside):
        text = (
            f"Up to {percent(outside['outside_share'].max())} of an update's squared norm lies outside the merged "
            "matrices and is ignored; the table below says for which."
        )
        findings.append(Pointer(text, "pages/5_Scores.py", "See the scores", {"step": last}))
    return findings


def where_next(view: View, scores: Scored | None) -> None:
    """The pointers as sentences with a link each."""
    st.header("Where to look", anchor=False)
    findings = pointers(view.run, scores)
    if not findings:
        st.text("Nothing stands out in this run.")
    for number, pointer in enumerate(findings):
        with st.container(horizontal=True, vertical_alignment="center", key=f"pointer-{number}"):
            st.markdown(pointer.text)
            selection.link(pointer.page, f"{pointer.link} →", **pointer.selection)


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
