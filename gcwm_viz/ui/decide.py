"""Parts of the page Decide, which helps to choose the updates to integrate."""

import math
from dataclasses import asdict, replace

import pandas as pd
import streamlit as st

from gcwm_viz.decide.evidence import by_place, left_out_effects
from gcwm_viz.decide.order import measured
from gcwm_viz.decide.plan import plan_of
from gcwm_viz.decide.verdict import Verdict
from gcwm_viz.errors import InputError
from gcwm_viz.figures import pair_matrix
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.probes.metrics import METRICS, rows_of_metric
from gcwm_viz.signals.catalogue import INCOMING
from gcwm_viz.signals.signal import Signal
from gcwm_viz.statistics.interval import Interval
from gcwm_viz.ui import grids
from gcwm_viz.ui.decision import Decision
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.text import as_markdown

PAIRWISE = Signal(
    column="pair_conflict",
    title="Conflict with the other updates",
    line="Mean geometry conflict of this update with every other one. Higher = more conflict.",
    formula=r"\operatorname{mean}_{j\ne k}\gamma_{kj}",
    source="equation (4)",
)
EXPECTED = Signal(
    column="pair_alpha",
    title="Expected gate α",
    line="α of the gate at that conflict. 0 = plain branch only, 1 = geometry branch only.",
    formula=r"\alpha(\operatorname{mean}_{j\ne k}\gamma_{kj})",
    source="equation (6)",
)
PAIRS = replace(
    pair_matrix.ABOUT, line="Geometry conflict of each pair of updates, mean over matrices. 0 = same, 1 = unrelated."
)
MARKS = {"integrate": "✓ integrate", "integrate gated": "✓ integrate gated", "leave out": "✕ leave out"}
_INTERVALS = {
    "gain": ("Own task at its step", "Right after its step minus right before, {unit}"),
    "drop": ("Earlier tasks lost", "At its step, on average; above zero: they lost"),
    "overall": ("Δ all tasks if removed", "Above zero: all tasks together do better without it"),
    "others": ("Δ others if removed", "Above zero: the other tasks do better without it"),
    "alone": ("Own expert over base", "What it brings by itself on its own task"),
    "incoming": ("Incoming conflict", "With the state before its step; 0 same, 1 unrelated"),
    "pairwise": ("Conflict with others", "Mean over every other update; 0 same, 1 unrelated"),
    "alpha": ("Expected α", "α of the gate at that conflict, 0 to 1"),
}
"""Columns of the table after the verdict: field of a candidate → heading, help."""
_UNSIGNED = ("incoming", "pairwise", "alpha")
ORDERS = ("as in this run", "least conflict first")


def table(decision: Decision) -> None:
    """One row a candidate."""
    rows = []
    for candidate in decision.evidence.candidates:
        verdict = decision.verdicts[candidate.update]
        row = {"step": candidate.step, "update": candidate.update}
        row |= {"verdict": MARKS[verdict.choice], "evidence": evidence(verdict)}
        rows.append(
            row | {name: _spread(getattr(candidate, name), signed=name not in _UNSIGNED) for name in _INTERVALS}
        )
    column = st.column_config
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "step": column.NumberColumn("Step", width=55),
            **{name: column.TextColumn(name.capitalize()) for name in ("update", "verdict", "evidence")},
            **{
                name: column.TextColumn(label, width=145, help=line.format(unit=decision.unit))
                for name, (label, line) in _INTERVALS.items()
            },
        },
    )
    missing = dict.fromkeys(
        entry["reason"]
        for candidate in decision.evidence.candidates
        for entry in asdict(candidate).values()
        if isinstance(entry, dict) and entry["reason"]
    )
    note = f" n/a: {'; '.join(missing)}." if missing else ""
    st.caption(
        "In brackets: 95 % intervals, for conflicts from layer to layer, for scores from example to example. Scores "
        "are differences: above zero is for the update in the columns of its own task, and against it in the columns "
        "“if removed” and “lost”."
        f"{as_markdown(note, 600)}"
    )


def evidence(verdict: Verdict) -> str:
    """The certainty of a verdict, in few words; "measured" is by leave-one-out."""
    if verdict.certainty == "clear":
        return "measured, clear" if verdict.left_out else "clear at its step"
    return "predicted only" if verdict.certainty == "predicted" else "inconclusive"


def explain(view: View, decision: Decision) -> None:
    """Why the candidate of the chosen step got its verdict, and where its conflict lies."""
    verdict = decision.verdicts[view.update]
    st.subheader(f"Why: {as_markdown(view.update, 60)}", anchor=False)
    st.caption("The update of the chosen step; the step slider in the side bar chooses another.")
    box = st.warning if verdict.choice == "leave out" else st.info if verdict.certainty != "clear" else st.success
    box(verdict.words)
    # A threshold that does not decide is left out; net and gain also say what was not measured.
    findings = [finding for finding in verdict.findings if finding.decides or finding.name in ("net", "gain")]
    st.markdown("\n".join(f"- {as_markdown(finding.words, 400)}" for finding in findings))
    cells = by_place(view.run.tables["matrices"], decision.evidence.pairs, view.run.store.settings, view.update)
    cells.insert(0, "step", view.step)
    limits = {signal.column: bounds(cells[signal.column], fit=True) for signal in (INCOMING, PAIRWISE, EXPECTED)}
    grids.show_grids(view, cells, (INCOMING, PAIRWISE, EXPECTED), limits)


def effects(decision: Decision, update: str) -> pd.DataFrame:
    """Change of every task without ``update``, tasks in the order of arrival."""
    rows = left_out_effects(decision.run.tables["leave_one_out"], update, decision.split, decision.metric)
    arrival = {name: step for step, name in enumerate(decision.run.updates)}
    return rows.sort_values("task", key=lambda tasks: tasks.map(arrival).fillna(len(arrival)), kind="stable")


def accountable(decision: Decision) -> None:
    """Whether conflict predicts, in this run, which updates cost the others."""
    agreement = decision.evidence.agreement
    if agreement.reason:
        return
    st.markdown(
        "Does conflict predict which updates cost the others? Over these "
        f"{agreement.n} updates its rank correlation with the gain of the others is "
        f"ρ = {num(agreement.rho, signed=True)} (permutation p = {num(agreement.p)}; 1 = the same ranking, 0 = no "
        "relation, below 0 = the opposite ranking)."
    )


def left_out_square(decision: Decision, column: str) -> pd.DataFrame:
    """(update left out, task) table of leave-one-out in the order of arrival; changes with more = better without."""
    rows = decision.run.tables["leave_one_out"]
    rows = rows_of_metric(rows[rows["split"] == decision.split], decision.metric)
    rows = rows.drop_duplicates(["left_out", "task"])
    square = rows.pivot(index="left_out", columns="task", values=column).astype(float)
    sign = -1.0 if column == "difference" and not METRICS[decision.metric] else 1.0
    updates = [name for name in decision.run.updates if name in square.index]
    tasks = [name for name in decision.run.updates if name in square.columns]
    return sign * square.reindex(index=updates, columns=[*tasks, *(t for t in square.columns if t not in tasks)])


def orders(decision: Decision) -> dict[str, list[str]]:
    """The orders that the curve compares, by name."""
    return {ORDERS[1]: decision.greedy, ORDERS[0]: [candidate.update for candidate in decision.evidence.candidates]}


def order_note(decision: Decision) -> str:
    if decision.order_matters:
        return f"In this run the final model depends on the order: {decision.order_matters}."
    return (
        "In this run every step keeps all updates and η is constant, so the final model does not depend on the order, "
        "only the path to it: the curve compares sets of updates."
    )


def choose_plan(decision: Decision) -> list[str]:
    """Check boxes for the updates, and their order; the conflict and the measured score of the chosen set."""
    boxes = st.columns(min(6, len(decision.evidence.candidates)))
    selected = []
    for index, candidate in enumerate(decision.evidence.candidates):
        take = decision.verdicts[candidate.update].choice != "leave out"
        key = f"take-{decision.run.path.name}-{index}-{take}"  # another verdict resets its box
        if boxes[index % len(boxes)].checkbox(as_markdown(candidate.update, 40), value=take, key=key):
            selected.append(candidate.update)
    order = st.segmented_control("Order of arrival", ORDERS, default=ORDERS[0], required=True, key="plan-order")
    ranks = decision.run.updates if order == ORDERS[0] else decision.greedy
    chosen = sorted(selected, key=ranks.index)
    if len(chosen) > 1:
        predicted = decision.path(chosen)["subset_conflict"].iloc[-1]
        st.markdown(f"Mean conflict between the {len(chosen)} updates: {num(predicted)}, higher = more conflict.")
    outcome = measured(decision.evidence.outcomes, chosen, ordered=bool(decision.order_matters))
    st.markdown(
        f"Measured for exactly these updates ({outcome.source}): {num(outcome.value)} {margin(outcome.se)} "
        f"{decision.unit} (95 %), mean over all tasks."
        if outcome
        else "This set has not been measured yet: run the plan to know."
    )
    return chosen


def plan_text(decision: Decision, chosen: list[str]) -> str | None:
    """The plan as YAML, or None with a sentence on the page."""
    try:
        return plan_of(decision.run.store, chosen).to_yaml()
    except InputError as error:
        st.text(str(error))
        return None


def _spread(interval: Interval, *, signed: bool = False) -> str:
    if not interval.known:
        return "n/a"
    numbers, plus = (interval.value, interval.low, interval.high), "+" if signed else ""
    value, low, high = (f"{round(number, 2) + 0.0:{plus}.2f}" for number in numbers)
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"
