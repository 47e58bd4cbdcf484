"""Parts of the page Decide, which helps to choose the updates to integrate, and how much of each."""

import math
from typing import Literal

import pandas as pd
import streamlit as st

from gcwm_viz.decide.benchmark.shipped import read_results
from gcwm_viz.decide.evidence import left_out_effects
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.rows import by_urgency
from gcwm_viz.decide.sentences import basis, fixed, gain_words, harm_words, label, outside_words, plan_words
from gcwm_viz.decide.verdict import levels
from gcwm_viz.errors import InputError
from gcwm_viz.figures import expected_levels, forecast_measured, plan_curve
from gcwm_viz.figures import left_out_effects as effects_figure
from gcwm_viz.figures import left_out_matrix as matrix_figure
from gcwm_viz.probes.metrics import METRICS, rows_of_metric
from gcwm_viz.signals.predictors import PREDICTORS
from gcwm_viz.statistics.interval import Interval
from gcwm_viz.ui import charts
from gcwm_viz.ui.decision import Decision, Known
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.trust import usual

_COLUMNS = {
    "update": ("Update", 110, "Sorted by what needs a decision"),
    "verdict": ("Verdict", 160, "✓ integrate, ◐ integrate with less, ✕ hold, = redundant with another"),
    "gain": ("All tasks gain", 145, "Expected change of the mean score by it, beside the others of the plan"),
    "harm": ("Harm, whole", 90, "Probability that taking it whole lowers the mean score"),
    "alone": ("Own task, alone", 145, "Its own expert over the base, measured"),
    "without": ("If left out", 145, "Measured change of all tasks without it; above zero: better without"),
    "rests": ("Rests on", 80, "What the verdict rests on: scores with it and without it, or the forecast"),
    "right": ("Was right", 95, "How often such a verdict was right in the benchmark; below, how that was tested"),
}
"""Of the table of verdicts: head, width in pixels, help. Together they fit beside the side bar at 1440 pixels."""
_ROWS = 30


def headline(known: Known) -> None:
    """The recommended plan in one sentence and what it rests on, or why there is none."""
    now = known.outlook
    if now is None:
        if known.reason:
            st.info(f"No forecast: {as_markdown(known.reason, 400)}.")
        return
    if now.outside:
        st.warning(as_markdown(outside_words(now), 500))
        if now.measured:
            st.markdown(as_markdown(plan_words(now), 900))
    else:
        st.success(as_markdown(plan_words(now), 900))
        st.caption(f"{as_markdown(basis(now), 500)} Mean {known.unit}, development split; ± 95 %.")


def table(decision: Decision) -> None:
    """One row an update; those that need a decision come first. Signals where there is no forecast."""
    now = decision.known.now
    if now is None:
        _signals(decision.known.signals)
        return
    right = _right(now)
    checked = "" if right else f" The benchmark checked no verdict under {now.forecast.method}, so “Was right” is n/a."
    own = {candidate.update: candidate for candidate in decision.candidates}
    rows = []
    for k in by_urgency(now):
        name, verdict = now.knowledge.updates[k], now.verdicts[k]
        rows.append(
            {
                "update": name,
                "verdict": label(now, k),
                "gain": gain_words(verdict),
                "harm": harm_words(verdict),
                "alone": _spread(own[name].alone) if name in own else "n/a",
                "without": _spread(own[name].overall) if name in own else "n/a",
                "rests": _rests(now, k),
                "right": right.get(verdict.choice, "n/a"),
            }
        )
    text = st.column_config.TextColumn
    config = {name: text(head, width=width, help=line) for name, (head, width, line) in _COLUMNS.items()}
    st.dataframe(
        pd.DataFrame(rows, columns=list(_COLUMNS)), hide_index=True, column_config=config, height=_height(len(rows))
    )
    st.caption(
        f"In brackets: 95 % intervals. “All tasks gain” is a mean over tasks of {decision.known.unit}, development "
        f"split; the two measured columns are in {decision.unit} on the split above.{_missing(decision)}{checked}"
    )


def _height(rows: int) -> Literal["content", "auto"]:
    """Of a table: every row of the usual runs is seen without scrolling inside it."""
    return "content" if rows <= _ROWS else "auto"


def _missing(decision: Decision) -> str:
    """Why cells of the measured columns are empty."""
    reasons: dict[str, None] = {}
    for candidate in decision.candidates:
        for column, interval in (("alone", candidate.alone), ("without", candidate.overall)):
            if not interval.known:
                reasons[f"“{_COLUMNS[column][0]}” is {interval.reason}"] = None
    return f" n/a: {as_markdown(', '.join(reasons), 400)}." if reasons else ""


def _rests(now: Outlook, k: int) -> str:
    """Measured where the plan was scored with the update and without it."""
    plans = levels(now.plan, k, now.eta)
    with_it = now.plan if now.plan[k] else plans[0]
    return "measured" if now.found(with_it) and now.found(plans[2]) else "forecast"


def _right(now: Outlook) -> dict[str, str]:
    """How often each verdict was right in the benchmark, in words; empty where its tables cannot be read, which the
    card of the benchmark says."""
    try:
        verdicts = read_results()["verdicts"]
    except InputError:
        return {}
    own = verdicts[(verdicts["method"] == now.forecast.method) & (verdicts["needs"] == now.forecast.needs)]
    if own.empty:
        return {}
    own = own[own["setting"] == usual(set(own["setting"]))]
    return {row["choice"]: f"{100 * row['right']:.0f} % of {row['n']:.0f}" for row in own.to_dict("records")}


def _signals(signals: pd.DataFrame) -> None:
    """Predictors without a forecast: what they say is not translated into a verdict."""
    if not len(signals):
        return
    config = {
        name: st.column_config.NumberColumn(PREDICTORS[name].title, help=PREDICTORS[name].line, format="%.3g")
        for name in signals
        if name in PREDICTORS
    }
    st.dataframe(signals, hide_index=True, column_config=config | {"update": "Update"}, height=_height(len(signals)))
    st.caption("Signals of each update alone, or as a mean over those that it acts on. No verdict follows from them.")


def expectations(known: Known) -> None:
    """What is expected of each update, and how the forecast of measured plans did."""
    if known.now is None:
        return
    left, right = st.columns(2, gap="medium")
    with left:
        figure = expected_levels.expected_levels(known.levels, unit_of(known))
        charts.show(figure, expected_levels.ABOUT, known.levels, key="levels")
    with right:
        figure = forecast_measured.forecast_measured(known.plans, known.unit)
        charts.show(figure, forecast_measured.ABOUT, known.plans, key="forecast-measured")


def orders(known: Known) -> None:
    """Expected and measured mean score as updates are taken one by one."""
    if known.now is None:
        return
    paths = [path.assign(order=name) for name, path in known.orders.items()]
    figure = plan_curve.plan_curve(known.orders, unit_of(known))
    charts.show(figure, plan_curve.ABOUT, pd.concat(paths, ignore_index=True), key="order")


def unit_of(known: Known) -> str:
    """Of a mean score; of its change where nobody measured the base."""
    return f"change of {known.unit}" if math.isnan(known.base) else known.unit


def left_out(decision: Decision, update: str) -> None:
    """What leave-one-out measured: of ``update`` on every task, and of all."""
    left, right = st.columns(2, gap="medium")
    with left:
        rows = _effects(decision, update)
        figure = effects_figure.left_out_effects(rows, decision.unit)
        charts.show(figure, effects_figure.ABOUT, rows, key="left-out", note=_whose(update))
    with right:
        change, errors = (_square(decision, name) for name in ("difference", "difference_se"))
        figure = matrix_figure.left_out_matrix(change, errors, decision.unit)
        charts.show(figure, matrix_figure.ABOUT, change.reset_index(), key="left-out-all")


def _whose(update: str) -> str:
    return f"Here of {as_markdown(update, 60)}; the step in the side bar chooses the update."


def _effects(decision: Decision, update: str) -> pd.DataFrame:
    """Change of every task without ``update``, tasks in the order of arrival."""
    rows = left_out_effects(decision.run.tables["leave_one_out"], update, decision.split, decision.metric)
    arrival = {name: step for step, name in enumerate(decision.run.updates)}
    return rows.sort_values("task", key=lambda tasks: tasks.map(arrival).fillna(len(arrival)), kind="stable")


def _square(decision: Decision, column: str) -> pd.DataFrame:
    """(update left out, task) table of leave-one-out in the order of arrival; changes with more = better without."""
    rows = decision.run.tables["leave_one_out"]
    rows = rows_of_metric(rows[rows["split"] == decision.split], decision.metric)
    rows = rows.drop_duplicates(["left_out", "task"])
    square = rows.pivot(index="left_out", columns="task", values=column).astype(float)
    sign = -1.0 if column == "difference" and not METRICS[decision.metric] else 1.0
    updates = [name for name in decision.run.updates if name in square.index]
    tasks = [name for name in decision.run.updates if name in square.columns]
    return sign * square.reindex(index=updates, columns=[*tasks, *(t for t in square.columns if t not in tasks)])


def _spread(interval: Interval) -> str:
    if not interval.known:
        return "n/a"
    value, low, high = (fixed(number, 2, signed=True) for number in (interval.value, interval.low, interval.high))
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"
