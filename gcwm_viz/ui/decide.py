"""Parts of the page Decide, which helps to choose the updates to integrate, and how much of each."""

import math

import numpy as np
import pandas as pd
import streamlit as st

from gcwm_viz.decide.benchmark.shipped import read_results
from gcwm_viz.decide.evidence import left_out_effects
from gcwm_viz.decide.forecast import believe
from gcwm_viz.decide.order import best_first
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.plan import plan_of
from gcwm_viz.decide.predict import read_tables
from gcwm_viz.decide.sentences import basis, label, plan_name, plan_words
from gcwm_viz.decide.verdict import Verdict, levels
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import METRICS, rows_of_metric
from gcwm_viz.signals.predictors import PREDICTORS
from gcwm_viz.statistics.interval import Interval
from gcwm_viz.statistics.means import Z95
from gcwm_viz.ui.decision import Decision
from gcwm_viz.ui.text import as_markdown

_URGENCY = {"hold": 0, "redundant": 1, "less": 2, "integrate": 3}
_SIGNALS = ("interference", "alignment", "sar", "conflict", "relative_norm", "effective_rank", "kl", "kl_others")
"""Shown where there is no forecast."""


def headline(decision: Decision) -> None:
    """The recommended plan in one sentence, and what it rests on."""
    now = decision.now
    if now is None:
        st.info(f"No forecast: {as_markdown(decision.reason, 400)}")
        return
    if now.outside:
        st.warning(
            "This run lies outside what the forecast was fitted on, so it shows no numbers: "
            f"{as_markdown(', '.join(now.outside), 300)}."
        )
    else:
        st.success(as_markdown(plan_words(now), 900))
    st.caption(as_markdown(basis(now), 500))


def table(decision: Decision) -> None:
    """One row an update; those that need a decision come first."""
    now = decision.now
    if now is None or now.outside:
        _signals(decision)
        return
    right = _right(now)
    own = {candidate.update: candidate for candidate in decision.candidates}
    rows = []
    for k in sorted(range(len(now.verdicts)), key=lambda k: _urgency(now.verdicts[k])):
        name, verdict = now.knowledge.updates[k], now.verdicts[k]
        rows.append(
            {
                "update": name,
                "verdict": label(now, k),
                "gain": f"{verdict.gain:+.2f} [{verdict.low:+.2f}, {verdict.high:+.2f}]",
                "harm": f"{verdict.harm:.0%}".replace("%", " %"),
                "alone": _spread(own[name].alone) if name in own else "n/a",
                "without": _spread(own[name].overall) if name in own else "n/a",
                "rests": _rests(now, k),
                "right": right.get(verdict.choice, "n/a"),
            }
        )
    column = st.column_config
    texts = {
        "update": ("Update", 110, "Sorted by what needs a decision"),
        "verdict": ("Verdict", 185, "✓ integrate, ◐ integrate with less, ✕ hold, = redundant with another"),
        "gain": ("All tasks gain", 135, "Expected change of the mean score by it, beside the others of the best plan"),
        "harm": ("Harm, whole", 85, "Probability that taking it whole lowers the mean score"),
        "alone": ("Own task, alone", 130, "Its own expert over the base, measured"),
        "without": ("If left out", 125, "Measured change of all tasks without it; above zero: better without"),
        "rests": ("Rests on", 85, "What the verdict rests on"),
        "right": (
            "Right",
            95,
            "How often such a verdict was right in the benchmark, on seeds of their own",
        ),
    }
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            name: column.TextColumn(head, width=width, help=line) for name, (head, width, line) in texts.items()
        },
    )
    missing = dict.fromkeys(
        interval.reason
        for candidate in decision.candidates
        for interval in (candidate.alone, candidate.overall)
        if not interval.known
    )
    note = f" n/a: {'; '.join(missing)}." if missing else ""
    st.caption(
        "In brackets: 95 % intervals. “All tasks gain” is a mean over tasks of exact match or accuracy, development "
        f"split; the two measured columns are in {decision.unit} on the split above.{as_markdown(note, 600)}"
    )


def _urgency(verdict: Verdict) -> tuple[float, float]:
    """Smaller = needs a decision more: held first, and of those to integrate the uncertain ones."""
    doubt = 0.5 if verdict.choice == "integrate" and not verdict.certain else 0.0
    return _URGENCY[verdict.choice] - doubt, verdict.gain


def _rests(now: Outlook, k: int) -> str:
    """Measured where the plan was scored with the update and without it."""
    plans = levels(now.plan, k, now.eta)
    with_it = now.plan if now.plan[k] else plans[0]
    if now.found(with_it) and now.found(plans[2]):
        return "measured"
    return "forecast"


def _right(now: Outlook) -> dict[str, str]:
    """How often each verdict was right in the benchmark, in words."""
    verdicts = read_results()["verdicts"]
    own = verdicts[(verdicts["method"] == now.forecast.method) & (verdicts["needs"] == now.forecast.needs)]
    own = own[own["setting"] == "new seeds"]
    return {row["choice"]: f"{row['right']:.0%} of {row['n']:.0f}".replace("%", " %") for row in own.to_dict("records")}


def _signals(decision: Decision) -> None:
    """Predictors without a forecast: what they say is not translated into a verdict."""
    tables = read_tables(decision.run.path)
    if not len(tables["updates"]):
        return
    names = decision.run.updates
    own = tables["updates"].set_index("update")
    acts = tables["pairs"].groupby("j").mean(numeric_only=True)
    rows = []
    for name in names:
        row: dict[str, object] = {"update": name}
        for column in _SIGNALS:
            source = own if column in own else acts
            defined = column in source and name in source.index
            row[column] = float(source[column][name]) if defined else math.nan
        rows.append(row)
    frame = pd.DataFrame(rows).dropna(axis=1, how="all")
    config = {
        name: st.column_config.NumberColumn(PREDICTORS[name].title, help=PREDICTORS[name].line, format="%.3g")
        for name in frame
        if name in PREDICTORS
    }
    st.dataframe(frame, hide_index=True, column_config=config)
    st.caption(
        "Signals of each update alone, or as a mean over the others that it acts on. No verdict follows from them."
    )


def level_rows(now: Outlook) -> pd.DataFrame:
    """Expected mean score with each update whole, with less of it, and without it."""
    base = float(now.knowledge.base.mean())
    rows = []
    for k in sorted(range(len(now.verdicts)), key=lambda k: _urgency(now.verdicts[k])):
        whole, less, without = (base + value for value in now.verdicts[k].expected)
        choice = now.verdicts[k].choice
        rows.append(
            {"update": now.knowledge.updates[k], "whole": whole, "less": less, "without": without, "choice": choice}
        )
    return pd.DataFrame(rows)


def measured_rows(now: Outlook) -> pd.DataFrame:
    """Every measured plan: what the model forecasts, without any measured merge, beside what was measured."""
    if not now.measured:
        return pd.DataFrame(columns=["plan", "kind", "forecast", "low", "high", "measured", "se"])
    prior = believe(now.forecast, now.knowledge, np.array([m.plan for m in now.measured]))
    rows = []
    for m, mean, half in zip(now.measured, prior.mean_p, Z95 * prior.sd_p, strict=True):
        taken = [strength for strength in m.plan if strength]
        whole = all(math.isclose(s, now.eta) for s in taken)
        kind = "others"
        if len(taken) == 1:
            kind = "experts"
        elif whole and len(taken) == len(m.plan):
            kind = "everything"
        elif whole and all(m.plan[: len(taken)]):
            kind = "steps"
        elif whole and len(taken) == len(m.plan) - 1:
            kind = "everything but one"
        rows.append(
            {"plan": plan_name(now, m.plan), "kind": kind, "forecast": mean, "low": mean - half, "high": mean + half}
            | {"measured": m.value, "se": m.error}
        )
    return pd.DataFrame(rows)


def orders(decision: Decision, now: Outlook) -> dict[str, pd.DataFrame]:
    """Expected and measured mean score as updates are taken one by one."""
    as_run = list(range(len(now.plan)))
    named = {"largest expectation first": (best_first(now), now.plan), "as in this run": (as_run, now.everything)}
    base = float(now.knowledge.base.mean())
    found = {}
    for name, (order, plan) in named.items():
        rows = []
        for size in range(1, len(order) + 1):
            own = tuple(s if k in order[:size] else 0.0 for k, s in enumerate(plan))
            mean, sd = now.expected(own)
            seen = now.found(own)
            rows.append(
                {"size": size, "update": now.knowledge.updates[order[size - 1]], "expected": base + mean}
                | {"low": base + mean - Z95 * sd, "high": base + mean + Z95 * sd}
                | {"value": base + seen.value if seen else math.nan, "se": seen.error if seen else math.nan}
            )
        found[name] = pd.DataFrame(rows)
    return found


def joined(paths: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """All orders as one table."""
    return pd.concat([path.assign(order=name) for name, path in paths.items()], ignore_index=True)


def effects(decision: Decision, update: str) -> pd.DataFrame:
    """Change of every task without ``update``, tasks in the order of arrival."""
    rows = left_out_effects(decision.run.tables["leave_one_out"], update, decision.split, decision.metric)
    arrival = {name: step for step, name in enumerate(decision.run.updates)}
    return rows.sort_values("task", key=lambda tasks: tasks.map(arrival).fillna(len(arrival)), kind="stable")


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


def plan_text(decision: Decision, chosen: dict[str, float]) -> str | None:
    """The plan as YAML, or None with a sentence on the page."""
    try:
        return plan_of(decision.run.store, chosen).to_yaml()
    except InputError as error:
        st.text(str(error))
        return None


def _spread(interval: Interval) -> str:
    if not interval.known:
        return "n/a"
    value, low, high = (f"{round(number, 2) + 0.0:+.2f}" for number in (interval.value, interval.low, interval.high))
    return value if math.isnan(interval.low) else f"{value} [{low}, {high}]"
