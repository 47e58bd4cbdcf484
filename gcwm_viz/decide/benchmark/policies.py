"""What a way of choosing a plan is worth: its regret on the test split, over pools.

Regret: mean test score over tasks of the pool's best scored plan, minus that of the chosen one. The best is chosen on
test, so the regret of any honest policy is above zero by that choice alone. Policies see the development split. Where
not every subset was scored, a policy takes the scored plan nearest to the one it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.decide.benchmark.cases import PoolCase
from gcwm_viz.decide.benchmark.validation import clusters
from gcwm_viz.decide.forecast import Forecast
from gcwm_viz.decide.search import Measured, search
from gcwm_viz.statistics.resampling import mean_interval

HOLD_CONFLICT = 0.56
"""Half way from the paper's τ, 0.12, to 1: the threshold on conflict alone by which an update used to be held."""
LEAST_GAIN = 0.05
Choose = Callable[[PoolCase], int]
"""The index of a scored plan."""


@dataclass(frozen=True)
class Policy:
    """``cost``: plans that are merged and scored on dev before it chooses."""

    name: str
    choose: Choose
    cost: int


def simple_policies() -> list[Policy]:
    return [
        Policy("integrate all", lambda case: _nearest(case, case.everything()), 0),
        Policy("conflict threshold", _by_conflict, 0),
        Policy("own gain", _by_own_gain, 0),
        Policy("leave-one-out on dev", _by_leave_one_out, 6),
        Policy("every subset on dev", lambda case: int(case.dev.mean(1).argmax()), -1),
    ]


def forecast_policy(name: str, forecast: Callable[[PoolCase], Forecast], measure: int = 0) -> Policy:
    """The plan of the highest expectation; after ``measure`` plans were measured on dev."""

    def choose(case: PoolCase) -> int:
        own = forecast(case)
        if not measure:
            return int(own.mean_change(case.known, case.plans_pt).argmax())
        return searched(own, case, measure)[-1]

    return Policy(name, choose, measure)


def searched(forecast: Forecast, case: PoolCase, measure: int) -> list[int]:
    """The plan chosen after each measurement, the forecast's first."""
    error = forecast.noise

    def score(plan: tuple[float, ...]) -> Measured:
        return Measured(plan, case.value(plan, "dev"), error)

    chosen = [int(forecast.mean_change(case.known, case.plans_pt).argmax())]
    for _, belief in search(forecast, case.known, case.plans_pt, score):
        chosen.append(belief.best)
        if len(chosen) > measure:
            break
    return chosen


def _nearest(case: PoolCase, plan: Sequence[float]) -> int:
    """The plan itself; where it was not scored, the first of the scored ones with the least difference in strengths."""
    return int(np.abs(case.plans_pt - np.asarray(plan)).sum(1).round(6).argmin())


def _chosen(case: PoolCase, keep: Sequence[bool]) -> int:
    """The plan of these updates, whole; the base where none is left."""
    return _nearest(case, [case.scale * each for each in keep])


def _by_conflict(case: PoolCase) -> int:
    """Left out above a mean conflict of :data:`HOLD_CONFLICT` with the others."""
    mean = np.nanmean(case.known.pairs["conflict"], axis=1)
    return _chosen(case, list(mean <= HOLD_CONFLICT))


def _by_own_gain(case: PoolCase) -> int:
    """Left out where its expert gains less than :data:`LEAST_GAIN` on its own task."""
    tasks = [case.known.tasks.index(claim) for claim in case.known.claims]
    gains = [case.known.solo[j, task, 1] - case.known.base[task] for j, task in enumerate(tasks)]
    return _chosen(case, [gain >= LEAST_GAIN for gain in gains])


def _by_leave_one_out(case: PoolCase) -> int:
    """Everything without those whose absence helps all tasks together on dev."""
    return _chosen(case, [case.marginal(j, "dev") >= 0 for j in range(case.updates)])


def regrets(cases: Sequence[PoolCase], policies: Sequence[Policy]) -> pd.DataFrame:
    """One row a pool and policy: value, change of the mean test score from the base; regret; cost."""
    rows = []
    for case in cases:
        values = case.test.mean(1)
        about = {"seed": case.seed, "pool": case.pool, "regime": case.regime}
        for policy in policies:
            value = float(values[policy.choose(case)])
            rows.append(
                about
                | {"policy": policy.name, "value": value, "regret": float(values.max()) - value, "cost": policy.cost}
            )
        rows.append(
            about
            | {
                "policy": "a random plan",
                "value": float(values.mean()),
                "regret": float(values.max() - values.mean()),
                "cost": 0,
            }
        )
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean regret of every policy with its interval over seeds (of one seed, over pools), and its share of that of
    integrating everything."""
    reference = table[table["policy"] == "integrate all"]["regret"].mean()
    rows = []
    for policy, part in table.groupby("policy", sort=False):
        own = part.groupby(clusters(part)).ngroup().to_numpy()
        low, high = mean_interval(part["regret"].to_numpy(float), own, 2000, seed)
        mean = part["regret"].mean()
        rows.append(
            {
                "policy": policy,
                "regret": mean,
                "low": low,
                "high": high,
                "share": mean / reference,
                "pools": len(part),
                "cost": part["cost"].iloc[0],
            }
        )
    return pd.DataFrame(rows)
