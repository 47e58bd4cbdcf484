"""Scores of the merged model at other strengths: base + s · S_T on the development probes.

Every s is a rescaling of the same merge. The best s is chosen on the probes that score it, so its gain is biased
upwards; only the test split gives an unbiased one.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.probes.metrics import METRICS, UNITS, headline, own_metric, rows_of_metric
from gcwm_viz.probes.stored import read_examples, read_strength_examples
from gcwm_viz.probes.values import difference_error
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import Z95, Z95_OF_FOUR, error_over_tasks


@dataclass(frozen=True)
class Strength:
    """The best of the strengths tried. ``value``, ``own``: mean over development tasks at ``factor`` and at 1, in
    ``metric``'s unit; ``gain``: their difference, ≥ 0 = better, and ``error``, its paired standard error (NaN where
    the run stored no examples); ``eta``: the step size that merges at this strength, NaN under a decaying η."""

    factor: float
    value: float
    own: float
    gain: float
    error: float
    metric: str
    eta: float

    @property
    def clear(self) -> bool:
        """Whether the gain is beyond chance, at 95 % over all strengths tried together."""
        return self.factor != 1.0 and self.gain > Z95_OF_FOUR * self.error

    @property
    def sentence(self) -> str:
        unit = UNITS[self.metric]
        comparison = (
            f"on the development probes {self.factor:g} times the merged update scores {self.value:.3f} {unit}, the "
            f"merged model {self.own:.3f} (better by {self.gain:.3f} ± {Z95 * self.error:.3f}, 95 %)"
        )
        return comparison if np.isnan(self.eta) else f"{comparison}; --set eta={self.eta:g} merges at that strength"


def strength_metric(run: Run) -> str:
    """The headline metric of the strengths that were tried."""
    return headline(run.tables["strength"].assign(split="dev"))


def strength_curve(run: Run, metric: str | None = None, value: str = "value") -> pd.DataFrame:
    """Scores on the development probes. Index: strength, ascending; columns: tasks in order of arrival; empty where no
    other strength was tried.

    ``metric``: by default the headline metric of the table. ``value="se"`` gives their standard errors.
    """
    table = run.tables["strength"]
    if table.empty:
        return pd.DataFrame()
    rows = rows_of_metric(table.assign(split="dev"), metric or strength_metric(run))
    curve = rows.pivot(index="strength", columns="task", values=value).sort_index().astype(float)
    ordered = [update for update in run.updates if update in curve]
    return curve[[*ordered, *(task for task in curve if task not in ordered)]]


def best_strength(run: Run, metric: str | None = None) -> Strength | None:
    """The strength with the best mean over development tasks; None where none were tried or a score is undefined.

    ``metric``: by default the headline metric of the table.
    """
    metric = metric or strength_metric(run)
    curve = strength_curve(run, metric)
    if curve.empty or curve.isna().to_numpy().any() or 1.0 not in curve.index:
        return None
    sign = 1.0 if METRICS[metric] else -1.0
    means = curve.mean(axis=1)
    factor = float(means.index[int(np.argmax(sign * means))])
    continual = run.store.settings.continual
    return Strength(
        factor=factor,
        value=float(means[factor]),
        own=float(means[1.0]),
        gain=sign * float(means[factor] - means[1.0]),
        error=_error(run, factor, metric, set(map(str, curve))),
        metric=metric,
        eta=float(f"{factor * continual.eta:.6g}") if continual.decay == 1.0 else float("nan"),
    )


def strength_note(run: Run, metric: str | None = None) -> str:
    """The sentence of the best strength where it is beyond chance, else an empty text."""
    best = best_strength(run, metric)
    return best.sentence if best is not None and best.clear else ""


def _error(run: Run, factor: float, metric: str, tasks: set[str]) -> float:
    """Standard error of the mean paired difference over ``tasks``; NaN unless the examples of all are stored."""
    if factor == 1.0:
        return 0.0
    scaled = {task.name: task for task in read_strength_examples(run.store).get(factor, [])}
    errors = {}
    for task in read_examples(run.store, run.steps):
        name = own_metric(task.metrics, metric)
        if task.split == "dev" and name and task.name in scaled:
            errors[task.name] = difference_error(name, scaled[task.name].metrics[name] - task.metrics[name])
    return error_over_tasks(list(errors.values())) if errors.keys() == tasks else float("nan")
