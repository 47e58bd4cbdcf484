"""Forecast of each task's score under a plan: a linear model of features, and how far it may be off.

Shape suffixes: p = plans, t = updates, k = tasks, f = features.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Kernel
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict

from gcwm_viz.decide.features import Needs, features
from gcwm_viz.decide.knowledge import Array, Knowledge
from gcwm_viz.errors import InputError

SHIPPED = Path(__file__).parent / "results" / "forecast.json"
RIDGES = (0.1, 1.0, 10.0, 100.0, 1000.0)
WITHIN = 10.0
"""Weight of the rows of means within a pool against those of single scores; by leaving out seeds of the fit, 3 to 30
choose about as well."""
RANGE = (0.5, 99.5)
"""Percentiles of a feature over the cases of a model that a forecast was fitted on; a value far outside those of all
models is a warning."""
MARGIN = 0.5
"""Share of that range by which a value may leave it."""


@dataclass(frozen=True)
class Case:
    """A pool of the benchmark: what is known of it, its plans (p, t), and the change of every task's score from the
    base under each, (p, k), on one split. ``group``: cases of a model that must not be on both sides of a
    validation."""

    known: Knowledge
    plans_pt: Array
    change_pk: Array
    group: int
    model: str = ""


@dataclass(frozen=True)
class Forecast:
    """``coefficients`` of the features by name; ``low`` and ``high``: their range where it was fitted. ``each`` and
    ``joint``: standard deviations of the error of the mean score, the part that an update at strength 1 adds, and the
    rest, which is alike for plans within ``length`` of each other (in strengths). ``noise``: of a measured score."""

    method: str
    needs: Needs
    coefficients: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    ridge: float
    each: float
    joint: float
    length: float
    noise: float

    def change(self, known: Knowledge, plans_pt: Array) -> Array:
        """Change of every task's score from the base, (p, k); within what a score can be where the base's is known."""
        names, values_pkf = features(known, plans_pt, self.needs)
        change = values_pkf @ np.array([self.coefficients[name] for name in names])
        base = known.base
        known_base = np.isfinite(base)
        within: Array = np.clip(change, np.where(known_base, -base, -1.0), np.where(known_base, 1.0 - base, 1.0))
        return within

    def mean_change(self, known: Knowledge, plans_pt: Array) -> Array:
        """The same as a mean over tasks, (p,)."""
        change: Array = self.change(known, plans_pt).mean(1)
        return change

    def outside(self, known: Knowledge, plans_pt: Array) -> list[str]:
        """Features that leave the range on which the forecast was fitted by more than half of it, in any plan."""
        names, values_pkf = features(known, plans_pt, self.needs)
        width = np.array([self.high[name] - self.low[name] for name in names])
        low, high = (np.array([bound[name] for name in names]) for bound in (self.low, self.high))
        far = (values_pkf < low - MARGIN * width) | (values_pkf > high + MARGIN * width)
        anywhere = np.atleast_1d(far.reshape(-1, len(names)).any(axis=0))
        return [name for name, each in zip(names, anywhere, strict=True) if each]

    @property
    def kernel(self) -> Kernel:
        """Covariance of the error between two plans with updates, as a function of their strengths."""
        linear = ConstantKernel(self.each**2) * DotProduct(sigma_0=1e-9)
        return linear + ConstantKernel(self.joint**2) * RBF(self.length)


@dataclass(frozen=True, eq=False)
class Belief:
    """Mean change from the base of every plan (p, t), and the standard deviation of its error: normal; both are 0 for
    the base itself. ``process``: of the error, for plans with updates."""

    plans_pt: Array
    mean_p: Array
    sd_p: Array
    process: GaussianProcessRegressor

    def difference(self, first: int, second: int) -> tuple[float, float]:
        """Mean and standard deviation of plan ``first`` minus plan ``second``."""
        both = self.plans_pt[[first, second]]
        _, cov = self.process.predict(both, return_cov=True)
        cov = np.where(np.outer(both.any(1), both.any(1)), cov, 0.0)
        variance = cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]
        return float(self.mean_p[first] - self.mean_p[second]), float(max(variance, 0.0) ** 0.5)

    def index(self, plan: Sequence[float]) -> int | None:
        """The place of a plan among those that are looked at."""
        same = np.flatnonzero(np.abs(self.plans_pt - np.asarray(plan)).max(1) < 1e-9)
        return int(same[0]) if len(same) else None

    @property
    def best(self) -> int:
        return int(self.mean_p.argmax())


Measurements = Iterable[tuple[Sequence[float], float, float]]
"""(strengths, change of the mean score from the base, its standard error) of every measured plan."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """A forecast of some updates, corrected by what was measured of them."""

    forecast: Forecast
    known: Knowledge
    process: GaussianProcessRegressor

    def of(self, plans_pt: Array) -> Belief:
        """What to expect of every plan."""
        mean, sd = self.process.predict(plans_pt, return_std=True)
        taken = plans_pt.any(1)
        prior = self.forecast.mean_change(self.known, plans_pt)
        return Belief(plans_pt, prior + np.where(taken, mean, 0.0), np.where(taken, sd, 0.0), self.process)


def posterior(forecast: Forecast, known: Knowledge, measured: Measurements = ()) -> Posterior:
    """The forecast is the mean of a Gaussian process; what a measured plan differs from it is partly expected of plans
    that share its updates."""
    rows = [(tuple(plan), value, error) for plan, value, error in measured if any(plan)]
    process = GaussianProcessRegressor(
        forecast.kernel,
        optimizer=None,
        alpha=np.array([max(error, 1e-4) ** 2 for _, _, error in rows]) if rows else 1e-8,
    )
    if rows:
        own = np.array([plan for plan, _, _ in rows])
        process.fit(own, np.array([value for _, value, _ in rows]) - forecast.mean_change(known, own))
    return Posterior(forecast, known, process)


def believe(forecast: Forecast, known: Knowledge, plans_pt: Array, measured: Measurements = ()) -> Belief:
    """What to expect of every plan, given those in ``measured``."""
    return posterior(forecast, known, measured).of(plans_pt)


def fit(cases: Sequence[Case], method: str, needs: Needs) -> Forecast:
    """Ridge regression on ``cases``; its strength, and the size of its errors, from leaving out one group at a time.

    Every plan gives a row a task, and one for its mean over tasks, relative to the mean of its pool: choosing a plan
    compares means within a pool, which a fit of single scores hardly weighs. Models count alike, and within a model its
    pools, however many plans were scored.
    """
    names, rows = list[str](), []
    pools = Counter(case.model for case in cases)
    number = {group: k for k, group in enumerate(dict.fromkeys((case.model, case.group) for case in cases))}
    for case in cases:
        names, values_pkf = features(case.known, case.plans_pt, needs)
        change_pk, (p, k) = case.change_pk, case.change_pk.shape
        mean_pf, mean_p = values_pkf.mean(1), change_pk.mean(1)
        x = np.concatenate([values_pkf.reshape(p * k, -1), mean_pf - mean_pf.mean(0)])
        y = np.concatenate([change_pk.reshape(-1), mean_p - mean_p.mean()])
        weights = np.concatenate([np.full(p * k, 1 / (p * k)), np.full(p, WITHIN / p)]) / pools[case.model]
        rows.append((x, y, weights, np.full(len(y), number[case.model, case.group])))
    x, y, weights, groups = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    weights = weights / weights.mean()
    rms = np.sqrt((x**2).mean(0))
    rms[rms == 0] = 1.0
    left_out = {
        ridge: cross_val_predict(
            Ridge(alpha=ridge, fit_intercept=False),
            x / rms,
            y,
            groups=groups,
            cv=LeaveOneGroupOut(),
            params={"sample_weight": weights},
        )
        for ridge in RIDGES
    }
    ridge = min(RIDGES, key=lambda each: float((weights * (left_out[each] - y) ** 2).mean()))
    model = Ridge(alpha=ridge, fit_intercept=False).fit(x / rms, y, sample_weight=weights)
    errors, seen, first = [], dict[str, list[Array]](), 0
    for case, (own, *_) in zip(cases, rows, strict=True):
        last = first + case.change_pk.size
        errors.append((y[first:last] - left_out[ridge][first:last]).reshape(case.change_pk.shape).mean(1))
        seen.setdefault(case.model, []).append(own[: case.change_pk.size])
        first += len(own)
    ranges = [np.percentile(np.concatenate(each), RANGE, axis=0) for each in seen.values()]
    low, high = np.min([low for low, _ in ranges], axis=0), np.max([high for _, high in ranges], axis=0)
    each, joint, length, noise = _errors(cases, errors)
    return Forecast(
        method=method,
        needs=needs,
        coefficients=dict(zip(names, map(float, model.coef_ / rms), strict=True)),
        low=dict(zip(names, map(float, low), strict=True)),
        high=dict(zip(names, map(float, high), strict=True)),
        ridge=ridge,
        each=each,
        joint=joint,
        length=length,
        noise=noise,
    )


def _errors(cases: Sequence[Case], errors: Sequence[Array]) -> list[float]:
    """each, joint, length and noise of greatest likelihood over all pools, from the errors of groups left out."""

    def negative(theta: Array) -> float:
        each, joint, length, noise = np.exp(theta)
        kernel = ConstantKernel(each**2) * DotProduct(sigma_0=1e-9) + ConstantKernel(joint**2) * RBF(length)
        total = 0.0
        for case, error in zip(cases, errors, strict=True):
            keep = case.plans_pt.any(1)
            cov = kernel(case.plans_pt[keep]) + noise**2 * np.eye(int(keep.sum()))
            _, determinant = np.linalg.slogdet(cov)
            total += 0.5 * float(error[keep] @ np.linalg.solve(cov, error[keep])) + 0.5 * determinant
        return total

    start = np.log([0.05, 0.03, 1.0, 0.01])
    bounds = [(np.log(low), np.log(high)) for low, high in ((1e-3, 1.0), (1e-3, 1.0), (0.3, 5.0), (1e-3, 0.1))]
    found = minimize(negative, start, method="L-BFGS-B", bounds=bounds)
    return [float(value) for value in np.exp(found.x)]


def write(forecasts: Sequence[Forecast], about: dict[str, Any], file: Path) -> None:
    """A table of coefficients with its provenance, as JSON."""
    file.write_text(json.dumps(about | {"forecasts": [asdict(each) for each in forecasts]}, indent=1) + "\n")


def read(file: Path = SHIPPED) -> list[Forecast]:
    """Raises :class:`InputError` for a file that is no table of forecasts."""
    try:
        return [Forecast(**entry) for entry in json.loads(file.read_bytes())["forecasts"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{file}: expected a table of forecasts, found something else") from None
