"""What is known and expected of a run's updates, as the tables that the page and the command line show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from gcwm_viz.decide.forecast import believe
from gcwm_viz.decide.order import best_first
from gcwm_viz.decide.outlook import Outlook
from gcwm_viz.decide.sentences import plan_name
from gcwm_viz.decide.verdict import Verdict
from gcwm_viz.statistics.means import Z95

_URGENCY = {"hold": 0, "redundant": 1, "less": 2, "integrate": 3}
_SIGNALS = ("interference", "alignment", "sar", "conflict", "relative_norm", "effective_rank", "kl", "kl_others")
"""Shown where there is no forecast."""


def by_urgency(now: Outlook) -> list[int]:
    """The updates, as places: those that need a decision first, held ones before all, then by what they bring."""

    def urgency(verdict: Verdict) -> tuple[float, float]:
        doubt = 0.5 if verdict.choice == "integrate" and not verdict.certain else 0.0
        return _URGENCY[verdict.choice] - doubt, verdict.gain

    return sorted(range(len(now.verdicts)), key=lambda k: urgency(now.verdicts[k]))


def signal_rows(updates: Sequence[str], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Predictors of each update, by column name; of a predictor of pairs the mean over the others that it acts on.

    tables: of :func:`~gcwm_viz.decide.predict.read_tables`; without those of the updates there are no rows.
    """
    if not len(tables["updates"]):
        return pd.DataFrame({"update": []})
    own = tables["updates"].set_index("update")
    acts = tables["pairs"].groupby("j").mean(numeric_only=True)
    rows = []
    for name in updates:
        row: dict[str, object] = {"update": name}
        for column in _SIGNALS:
            source = own if column in own else acts
            defined = column in source and name in source.index
            row[column] = float(source[column][name]) if defined else math.nan
        rows.append(row)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def level_rows(now: Outlook) -> pd.DataFrame:
    """Expected mean score with each update whole, with less of it, and without it; changes from the base where nobody
    measured that."""
    base = 0.0 if math.isnan(now.base) else now.base
    rows = []
    for k in by_urgency(now):
        whole, less, without = (base + value for value in now.verdicts[k].expected)
        choice = now.verdicts[k].choice
        rows.append(
            {"update": now.knowledge.updates[k], "whole": whole, "less": less, "without": without, "choice": choice}
        )
    return pd.DataFrame(rows)


def measured_rows(now: Outlook) -> pd.DataFrame:
    """Every measured plan: what the model forecasts, without any measured merge, beside what was measured; changes of
    the mean score from the base."""
    if not now.measured:
        return pd.DataFrame(columns=["plan", "kind", "forecast", "low", "high", "measured", "se"])
    prior = believe(now.forecast, now.knowledge, np.array([m.plan for m in now.measured]))
    rows = []
    for m, mean, half in zip(now.measured, prior.mean_p, Z95 * prior.sd_p, strict=True):
        name = plan_name(now.knowledge.updates, now.strengths(m.plan))
        rows.append(
            {"plan": name, "kind": _kind(now, m.plan), "forecast": mean, "low": mean - half, "high": mean + half}
            | {"measured": m.value, "se": m.error}
        )
    return pd.DataFrame(rows)


def _kind(now: Outlook, plan: Sequence[float]) -> str:
    """Of :data:`gcwm_viz.figures.forecast_measured.KINDS`."""
    taken = [strength for strength in plan if strength]
    whole = all(math.isclose(s, now.eta) for s in taken)
    if whole and len(taken) == len(plan):
        return "everything"
    if len(taken) == 1:
        return "experts"
    if whole and all(plan[: len(taken)]):
        return "steps"
    return "everything but one" if whole and len(taken) == len(plan) - 1 else "others"


def order_rows(now: Outlook) -> dict[str, pd.DataFrame]:
    """Expected and measured mean score as updates are taken one by one, by the name of the order; changes from the
    base where nobody measured that."""
    as_run = list(range(len(now.plan)))
    named = {"largest expectation first": (best_first(now), now.plan), "as in this run": (as_run, now.everything)}
    base = 0.0 if math.isnan(now.base) else now.base
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
        if rows:
            found[name] = pd.DataFrame(rows)
    return found
