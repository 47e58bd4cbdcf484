"""What to expect of a run's updates: forecast, what was measured, the plan that follows, a verdict on each update.

Strengths are those that reach the model: of an update times η.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.order import order_matters
from gcwm_viz.decide.features import NEEDS
from gcwm_viz.decide.forecast import Belief, Forecast, Posterior, posterior
from gcwm_viz.decide.knowledge import Array, Knowledge
from gcwm_viz.decide.search import Measured, candidate_plans, distinct
from gcwm_viz.decide.verdict import Verdict, judge, looked_at
from gcwm_viz.probes.metrics import rows_of_metric
from gcwm_viz.statistics.means import error_over_tasks

SPLIT = "dev"


@dataclass(frozen=True)
class Outlook:
    """``posterior``: the forecast after what was measured; ``belief``: what it expects of every plan that is looked at.
    ``plan``: that of the highest expectation among :func:`~gcwm_viz.decide.search.candidate_plans`, changed until it
    does what the ``verdicts`` say, which are on each update beside the others of it. ``outside``: features on which
    this run lies outside what the forecast was fitted on."""

    knowledge: Knowledge
    forecast: Forecast
    eta: float
    measured: list[Measured]
    posterior: Posterior
    belief: Belief
    plan: tuple[float, ...]
    verdicts: list[Verdict]
    outside: list[str]

    @property
    def everything(self) -> tuple[float, ...]:
        return (self.eta,) * len(self.knowledge.updates)

    @property
    def base(self) -> float:
        """Mean score of the base over tasks; NaN where nobody measured it: then there are changes from it alone."""
        known = self.knowledge.base[np.isfinite(self.knowledge.base)]
        return float(known.mean()) if len(known) else math.nan

    @property
    def recommended(self) -> tuple[float, ...]:
        """:attr:`plan`; outside the range of the forecast the best that was measured, everything where nothing was."""
        if not self.outside:
            return self.plan
        best = max(self.measured, key=lambda m: m.value, default=None)
        return best.plan if best else self.everything

    def strengths(self, plan: Sequence[float]) -> dict[str, float]:
        """The plan for a run: strength of each update that it takes, on top of η."""
        parts = zip(self.knowledge.updates, plan, strict=True)
        return {name: float(strength / self.eta) for name, strength in parts if strength}

    def expected(self, plan: Sequence[float]) -> tuple[float, float]:
        """Change of the mean score from the base under a plan, and its standard deviation."""
        belief = self.belief_of(np.array([plan]))
        return float(belief.mean_p[0]), float(belief.sd_p[0])

    def belief_of(self, plans_pt: Array) -> Belief:
        """The same of several plans."""
        return self.posterior.of(plans_pt)

    def found(self, plan: Sequence[float]) -> Measured | None:
        """What was measured of exactly this plan."""
        return measurement(self.measured, plan)


def measurement(measured: Sequence[Measured], plan: Sequence[float]) -> Measured | None:
    """What was measured of exactly this plan."""
    return next((m for m in measured if np.allclose(m.plan, plan, atol=1e-9)), None)


def outlook(knowledge: Knowledge, forecast: Forecast, eta: float, measured: Sequence[Measured]) -> Outlook:
    """Plans are looked at whose updates are whole, at the lesser strength, or left out; what was measured at other
    strengths informs the belief nevertheless."""
    count = len(knowledge.updates)
    seen = [tuple(s / eta for s in m.plan) for m in measured if {s / eta for s in m.plan} <= {0.0, 1.0}]
    plans = eta * candidate_plans(count, seen)
    expected = posterior(forecast, knowledge, [(m.plan, m.value, m.error) for m in measured])
    plan = _settled(expected, tuple(map(float, plans[expected.of(plans).best])), eta)
    belief = expected.of(distinct(np.concatenate([plans, looked_at(plan, eta)])))
    return Outlook(
        knowledge=knowledge,
        forecast=forecast,
        eta=eta,
        measured=list(measured),
        posterior=expected,
        belief=belief,
        plan=plan,
        verdicts=[judge(belief, plan, update, eta) for update in range(count)],
        outside=forecast.outside(knowledge, np.array([(eta,) * count])),
    )


def _settled(expected: Posterior, plan: tuple[float, ...], eta: float) -> tuple[float, ...]:
    """``plan`` with every update at the strength that the verdict on it says. The candidates have less of one update
    alone, or of all, and a verdict prefers the whole update where the difference does not count."""
    for _ in range(2 * len(plan)):
        belief = expected.of(looked_at(plan, eta))
        verdicts = [judge(belief, plan, update, eta) for update in range(len(plan))]
        other = [k for k, verdict in enumerate(verdicts) if not math.isclose(verdict.strength, plan[k], abs_tol=1e-9)]
        if not other:
            break
        # One at a time, as each verdict is on the others as they are; first the one that brings most.
        most = max(other, key=lambda k: max(verdicts[k].expected))
        plan = tuple(verdicts[most].strength if k == most else strength for k, strength in enumerate(plan))
    return plan


def forecast_for(
    forecasts: Sequence[Forecast], knowledge: Knowledge, settings: RunSettings, *, trained: bool = False
) -> tuple[Forecast | None, str]:
    """The forecast that uses most of what is known, of those that were fitted on cases like this one; where there is
    none of these, of all: it is outside its range. Or None and why there is no forecast."""
    reason = no_forecast(forecasts, settings, trained=trained)
    if reason:
        return None, reason
    given = {"labels": knowledge.has_labels, "prompts": knowledge.has_prompts, "updates": True}
    by_needs = {each.needs: each for each in forecasts if each.method == settings.method}
    own = [by_needs[needs] for needs in reversed(NEEDS) if given[needs] and needs in by_needs]
    if not own:
        return None, "the benchmark has no forecast without probes"
    everything = np.full((1, len(knowledge.updates)), settings.continual.eta)
    return next((each for each in own if not each.outside(knowledge, everything)), own[0]), ""


def no_forecast(forecasts: Sequence[Forecast], settings: RunSettings, *, trained: bool = False) -> str:
    """Why runs of these settings have no forecast, whatever is known of their updates; empty where they may have one.

    trained: the run describes the states of a training pipeline.
    """
    if trained:
        return "this run describes a training pipeline, so there is nothing to choose"
    if settings.continual.post != "none":
        return f"forecasts hold for merges without a step after them; here {settings.continual.post}"
    order = order_matters(settings)
    if order:
        return f"forecasts hold for merges that do not depend on the order; here {order}"
    methods = dict.fromkeys(each.method for each in forecasts)
    if settings.method not in methods:
        return f"the benchmark has no forecast for the method {settings.method}, only for {', '.join(methods)}"
    return ""


def base_scores(scores: pd.DataFrame) -> pd.Series:
    """Score of the base on every task with an accuracy, on dev. scores: a run's table of that name."""
    own = _accuracy(scores)
    return own[own["model"] == "base"].set_index("task")["value"].astype(float)


def measured_plans(tables: Mapping[str, pd.DataFrame], updates: Sequence[str], eta: float) -> list[Measured]:
    """Every plan of the run that was scored on dev: base, experts, steps, the final state at other strengths, and what
    leave-one-out and the search of plans measured. Mean over tasks with an accuracy; a plan without one of these scores
    is left out.

    The standard error is that of the plan's own score: a difference from the base on the same examples has about as
    much, since both scores vary together.
    """
    n = len(updates)
    place = {name: k for k, name in enumerate(updates)}

    def only(*names: str, strength: float) -> tuple[float, ...]:
        return tuple(strength if name in names else 0.0 for name in updates)

    scores, base = _accuracy(tables["scores"]), base_scores(tables["scores"])
    found: dict[tuple[float, ...], Measured] = {}

    def add(plan: tuple[float, ...], rows: pd.DataFrame) -> None:
        values = rows.set_index("task")
        tasks = [task for task in base.index if task in values.index]
        if len(tasks) == len(base) and len(base):
            change = float((values.loc[tasks, "value"].astype(float) - base[tasks]).mean(skipna=False))
            error = error_over_tasks(values.loc[tasks, "se"].astype(float))
            if math.isfinite(change) and math.isfinite(error):
                found.setdefault(plan, Measured(plan, change, error))

    for _, rows in scores.groupby(["model", "step"], sort=False):
        model, step = rows["model"].iloc[0], int(rows["step"].iloc[0])
        if model == "step":
            add(tuple(eta if place[name] < step else 0.0 for name in updates), rows)
        elif model == "expert":
            add(only(updates[step - 1], strength=1.0), rows)
    for name, rows in _accuracy(tables["leave_one_out"]).groupby("left_out", sort=False):
        add(tuple(0.0 if update == name else eta for update in updates), rows)
    strength = tables["strength"]
    if len(strength):
        for _, rows in _accuracy(strength.assign(split=SPLIT)).groupby("strength", sort=False):
            add((eta * float(rows["strength"].iloc[0]),) * n, rows)
    if len(tables["plans"]):
        for _, rows in _accuracy(tables["plans"]).groupby("plan", sort=False):
            own = json.loads(rows.iloc[0]["strengths"])
            add(tuple(eta * float(own.get(name, 0.0)) for name in updates), rows)
    return list(found.values())


def _accuracy(table: pd.DataFrame) -> pd.DataFrame:
    own = table[table["split"] == SPLIT]
    return rows_of_metric(own, "accuracy") if len(own) else own
