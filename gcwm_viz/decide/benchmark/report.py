"""What the benchmark says: forecasts fitted on some seeds, reported on others.

    results/forecast.json       coefficients by method and by what they need, with their provenance
    results/validation.csv      every predictor and forecast: ρ and AUC with the loss that an update causes
    results/regret.csv          what each way of choosing a plan costs
    results/reliability.csv     forecast probability of harm against how often it came
    results/verdicts.csv        how often each verdict was right
    results/coverage.csv        how often an interval of 95 % held
    results/settled.csv         what following the verdicts costs beside the plan of the highest expectation

``setting``: ``new seeds``, fitted on other seeds with all regimes; ``new seeds and regimes``, fitted on other seeds
without the regime that is reported; ``smollm2``, fitted on the lab alone; ``smollm2, new regimes``, fitted on the lab
and on pools of SmolLM2 with other bad updates. What ships is fitted on the seeds of the lab and on these pools.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gcwm_viz.decide.benchmark.cases import LAB, SMOLLM2, PoolCase, pool_cases
from gcwm_viz.decide.benchmark.lab import FITTED, REPORTED
from gcwm_viz.decide.benchmark.policies import Policy, forecast_policy, regrets, simple_policies, summary
from gcwm_viz.decide.benchmark.pools import GOOD, MIXED
from gcwm_viz.decide.benchmark.validation import units, validate
from gcwm_viz.decide.features import NEEDS, Needs
from gcwm_viz.decide.forecast import Belief, Forecast, believe, fit
from gcwm_viz.decide.knowledge import STRENGTHS
from gcwm_viz.decide.outlook import outlook
from gcwm_viz.decide.search import distinct
from gcwm_viz.decide.verdict import SMALL, Verdict, judge, looked_at
from gcwm_viz.errors import InputError
from gcwm_viz.signals.predictors import PREDICTORS
from gcwm_viz.statistics.means import Z95
from gcwm_viz.statistics.resampling import mean_interval

NEW_SEEDS, NEW_REGIMES = "new seeds", "new seeds and regimes"
OTHER_MODEL, OTHER_MODEL_REGIMES = "smollm2", "smollm2, new regimes"
LEAST_GROUPS = 3
"""Fewest seeds that a forecast is fitted on: one is left out at a time."""
FITTED_REGIMES = (GOOD, "under-trained", "shuffled", "wrong-name")
"""Pools of SmolLM2 that fit."""
MEASURED = (1, 3, 5)
"""Numbers of measured plans after which a choice is reported."""
BINS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
Tables = Mapping[str, pd.DataFrame]
Fitted = Callable[[Needs, PoolCase], Forecast]
"""The forecast, by what it needs, for a case that it did not see."""


@dataclass(frozen=True)
class Setting:
    """``forecast``: that of a case; it never saw the case's seed, nor its regime where ``name`` says so."""

    name: str
    cases: Sequence[PoolCase]
    tables: Tables
    forecast: Fitted


def check_apart(fitted: Sequence[PoolCase], reported: Sequence[PoolCase]) -> None:
    """Raises :class:`InputError` where a seed of the lab, or a bad update of another model, is on both sides."""
    own, other = ({(case.model, case.seed) for case in cases if case.model == LAB} for cases in (fitted, reported))
    if own & other:
        seed = min(seed for _, seed in own & other)
        raise InputError(f"seed {seed} would both fit and report; expected seeds of their own for each")
    bad, reported_bad = (set[str]().union(*map(_bad, cases)) for cases in (fitted, reported))
    if bad & reported_bad:
        raise InputError(
            f"{min(bad & reported_bad)} would both fit and report; expected bad updates of their own for each"
        )


def _fits(case: PoolCase) -> bool:
    return case.regime in FITTED_REGIMES


def _bad(case: PoolCase) -> set[str]:
    """The bad updates of a pool of another model; the lab's are trained anew for every seed."""
    if case.model == LAB:
        return set()
    return {name for name, kind in zip(case.known.updates, case.kinds, strict=True) if kind != GOOD}


def settings(
    method: str,
    fitted: Sequence[PoolCase],
    reported: Sequence[PoolCase],
    tables: Tables,
    smollm2: Tables | None = None,
) -> tuple[list[Setting], list[Forecast]]:
    """How forecasts are reported, first those that ship, fitted on all regimes of ``fitted`` and on the pools of
    ``smollm2`` that fit; and these themselves."""
    of_model = [] if smollm2 is None else pool_cases(smollm2, method, model=SMOLLM2)
    of_model_fitted = [case for case in of_model if _fits(case)]
    seen = set[str]().union(*map(_bad, of_model_fitted))
    of_model_reported = [case for case in of_model if not _fits(case) and not _bad(case) & seen]
    check_apart([*fitted, *of_model_fitted], [*reported, *of_model_reported])

    @cache
    def fit_on(lab_alone: bool, without: str, needs: Needs) -> Forecast:
        # A mixed pool has three kinds of bad updates; as a regime it is new where no mixed pool was seen.
        own = [*fitted, *([] if lab_alone else of_model_fitted)]
        if without:
            own = [c for c in own if c.regime != without and (without in (GOOD, MIXED) or without not in c.kinds)]
        return fit([case.case() for case in own], method, needs)

    parts = [
        Setting(NEW_SEEDS, reported, tables, lambda needs, case: fit_on(False, "", needs)),
        Setting(NEW_REGIMES, reported, tables, lambda needs, case: fit_on(False, case.regime, needs)),
    ]
    if smollm2 is not None and of_model:
        alone = Setting(OTHER_MODEL, _scales(of_model), smollm2, lambda needs, case: fit_on(True, "", needs))
        parts.append(alone)
    if smollm2 is not None and of_model_fitted and of_model_reported:
        parts.append(replace(parts[0], name=OTHER_MODEL_REGIMES, cases=_scales(of_model_reported), tables=smollm2))
    return parts, [fit_on(False, "", needs) for needs in NEEDS]


def _scales(cases: Sequence[PoolCase]) -> list[PoolCase]:
    """Pools once with every update whole and once with less of all, which suits updates that hardly overlap."""
    return [replace(case, scale=scale) for scale in (1.0, STRENGTHS[0]) for case in cases]


def report(parts: Sequence[Setting], method: str) -> dict[str, pd.DataFrame]:
    """The tables of one method over its settings."""
    found: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("validation", "regret", "reliability", "verdicts", "coverage", "settled")
    }
    for part in parts:
        about = {"method": method, "setting": part.name}
        judged = pd.concat([_judged(part, needs) for needs in NEEDS], ignore_index=True)
        table = units(part.cases, part.tables)
        keys = ["seed", "pool", "scale", "update"]
        for needs, rows in judged.groupby("needs", sort=False):
            table = table.merge(
                rows[[*keys, "harm"]].rename(columns={"harm": f"forecast, {needs}"}), on=keys, how="left"
            )
        columns = [*PREDICTORS, *(f"forecast, {needs}" for needs in NEEDS)]
        if part.name == NEW_REGIMES:
            columns = columns[len(PREDICTORS) :]
        found["validation"].append(validate(table, columns).assign(**about))
        found["reliability"].append(_reliability(judged).assign(**about))
        found["verdicts"].append(_right(judged).assign(**about))
        found["coverage"].append(_coverage(judged).assign(**about))
        if any(len(case.plans_pt) > 2 * case.updates for case in part.cases):
            found["regret"].append(_regret(part).assign(**about))
            found["settled"].append(_settled(part).assign(**about))
    return {name: pd.concat(tables, ignore_index=True) if tables else pd.DataFrame() for name, tables in found.items()}


def _judged(part: Setting, needs: Needs) -> pd.DataFrame:
    """One row an update of a pool: forecast and truth of its part, verdict and whether that was right."""
    rows = []
    for case in part.cases:
        forecast = part.forecast(needs, case)
        plans = distinct(np.concatenate([case.plans_pt, looked_at(case.everything(), case.scale)]))
        belief = believe(forecast, case.known, plans)
        for j in range(case.updates):
            loss = -case.marginal(j)
            if np.isnan(loss):
                continue
            verdict = judge(belief, case.everything(), j, case.scale)
            gain, sd = _part(belief, case, j)
            rows.append(
                {"needs": needs, "seed": case.seed, "pool": case.pool, "regime": case.regime, "scale": case.scale}
                | {"update": case.known.updates[j], "kind": case.kinds[j], "loss": loss, "harm": verdict.harm}
                | {"gain": gain, "sd": sd, "choice": verdict.choice, "right": _is_right(case, j, verdict)}
            )
    return pd.DataFrame(rows)


def _part(belief: Belief, case: PoolCase, j: int) -> tuple[float, float]:
    whole, without = (belief.index(plan) for plan in (case.everything(), case.with_strength(j, 0.0)))
    assert whole is not None
    assert without is not None
    return belief.difference(whole, without)


def _is_right(case: PoolCase, j: int, verdict: Verdict) -> float:
    """Whether the test score of what the verdict says is within :data:`SMALL` of the best of whole, less and none; NaN
    where one of them was not scored."""
    values = [case.value(case.with_strength(j, strength)) for strength in (1.0, STRENGTHS[0], 0.0)]
    if any(np.isnan(values)):
        return float("nan")
    said = {"integrate": 0, "less": 1, "hold": 2, "redundant": 2}[verdict.choice]
    return float(values[said] >= max(values) - SMALL)


def _reliability(judged: pd.DataFrame) -> pd.DataFrame:
    """Forecast probability that an update lowers the score against the share that did, in bins."""
    rows = []
    for needs, part in judged.groupby("needs", sort=False):
        bins = np.clip(np.digitize(part["harm"], BINS[1:-1]), 0, len(BINS) - 2)
        for at in sorted(set(bins.tolist())):
            own = part[bins == at]
            harmful = own["loss"] > 0
            rows.append(
                {
                    "needs": needs,
                    "forecast": own["harm"].mean(),
                    "observed": harmful.mean(),
                    "n": len(own),
                    "bin": at,
                }
            )
    return pd.DataFrame(rows)


def _right(judged: pd.DataFrame) -> pd.DataFrame:
    """Share of right verdicts, by verdict, with how many there were."""
    known = judged.dropna(subset=["right"])
    table = known.groupby(["needs", "choice"], sort=False)["right"].agg(["mean", "size"]).reset_index()
    return table.rename(columns={"mean": "right", "size": "n"})


def _coverage(judged: pd.DataFrame) -> pd.DataFrame:
    """Share of updates whose part lies in its 95 % interval, the interval's mean width, and the mean error."""
    rows = []
    for needs, part in judged.groupby("needs", sort=False):
        error = -part["loss"] - part["gain"]
        rows.append(
            {"needs": needs, "covered": (error.abs() <= Z95 * part["sd"]).mean(), "width": 2 * Z95 * part["sd"].mean()}
            | {"error": error.abs().mean(), "bias": error.mean(), "n": len(part)}
        )
    return pd.DataFrame(rows)


def _regret(part: Setting) -> pd.DataFrame:
    policies: list[Policy] = simple_policies()
    policies += [forecast_policy(f"forecast, {needs}", partial(part.forecast, needs)) for needs in NEEDS]
    if all(np.isfinite(case.dev).all() for case in part.cases):
        labels = partial(part.forecast, "labels")
        policies += [forecast_policy(f"forecast, labels, {count} measured", labels, count) for count in MEASURED]
    else:  # without scores on dev nothing can be measured before the choice
        policies = [policy for policy in policies if not policy.cost]
    table = regrets(part.cases, policies)
    return summary(table)


def _settled(part: Setting) -> pd.DataFrame:
    """What the plan of the page Decide, in which every update has the strength of its verdict, scores on test beyond
    the plan of the highest expectation, over the pools in which it is one of those that were scored."""
    differences, groups = [], []
    for case in part.cases:
        forecast = part.forecast("labels", case)
        at = case.index(outlook(case.known, forecast, case.scale, ()).plan)
        if at is not None:
            value = case.test.mean(1)
            differences.append(float(value[at] - value[forecast.mean_change(case.known, case.plans_pt).argmax()]))
            groups.append(case.seed)
    low, high = mean_interval(np.array(differences), np.array(groups), 2000, 0) if differences else (math.nan, math.nan)
    mean = float(np.mean(differences)) if differences else math.nan
    return pd.DataFrame(
        [{"pools": len(part.cases), "scored": len(differences), "difference": mean, "low": low, "high": high}]
    )


def provenance(fitted: Sequence[PoolCase], reported: Sequence[PoolCase], parts: Sequence[Setting]) -> dict[str, Any]:
    """Seeds and pools that a method's forecasts come from."""
    found = {
        "fitted on seeds": sorted({case.seed for case in fitted}),
        "reported on seeds": sorted({case.seed for case in reported}),
        "pools": len(fitted),
    }
    fits = {case.pool for part in parts if part.name == OTHER_MODEL for case in part.cases if _fits(case)}
    return found | ({"pools of SmolLM2": sorted(fits)} if fits else {})


def write_csv(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")


def results(
    lab: Tables, smollm2: Tables | None, methods: Sequence[str], report_progress: Callable[[str], None] | None = None
) -> tuple[dict[str, pd.DataFrame], list[Forecast], dict[str, Any]]:
    """All tables, the forecasts that ship, and what they come from. ``smollm2``: tables of its benchmark; None leaves
    that model out."""
    parts: dict[str, list[pd.DataFrame]] = {}
    forecasts: list[Forecast] = []
    source: dict[str, Any] = {}
    for method in methods:
        fitted, reported = (pool_cases(lab, method, seeds) for seeds in (FITTED, REPORTED))
        if len({case.seed for case in fitted}) < LEAST_GROUPS or not reported:
            continue
        if report_progress:
            report_progress(f"{method}: fitting on {len(fitted)} pools, reporting on {len(reported)}")
        own, shipped = settings(method, fitted, reported, lab, smollm2)
        forecasts += shipped
        source.setdefault("methods", {})[method] = provenance(fitted, reported, own)
        for name, table in report(own, method).items():
            parts.setdefault(name, []).append(table)
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}, forecasts, source
