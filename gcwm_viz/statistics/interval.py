"""A number with its 95 % interval, and the intervals of the numbers that decisions use."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from gcwm_viz.statistics.means import Z95
from gcwm_viz.statistics.resampling import cluster_sums, multiplicities, percentile_interval

RESAMPLES = 2000
Place = Literal["above", "below", "covers", "unknown"]


@dataclass(frozen=True)
class Interval:
    """``value`` with the bounds of its 95 % interval, NaN bounds where there is none; ``reason``: why one is NaN."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    reason: str = ""

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)

    @property
    def negated(self) -> "Interval":
        """The same of −value."""
        return Interval(-self.value, -self.high, -self.low, self.reason)

    def against(self, threshold: float) -> Place:
        """Position of the interval: ``above`` or ``below`` the threshold, or ``covers`` it, ends included.

        A value without an interval covers every threshold. ``unknown`` for NaN.
        """
        if not self.known:
            return "unknown"
        if self.low > threshold:
            return "above"
        return "below" if self.high < threshold else "covers"


def missing(reason: str) -> Interval:
    return Interval(reason=reason)


def from_error(value: float, se: float) -> Interval:
    """Normal interval of a mean with standard error ``se``; NaN stays NaN."""
    if math.isnan(value):
        return missing("the score is not defined")
    if math.isnan(se):
        return Interval(value, reason="no standard error, so no interval")
    return Interval(value, value - Z95 * se, value + Z95 * se)


def mean_over_matrices(values: pd.Series, layers: pd.Series, seed: int = 0) -> Interval:
    """Mean of a per-matrix value and its bootstrap interval over layers (2,000 resamples, seeded).

    Layers are the clusters, because matrices of one layer are alike; undefined values are left out. It shows how far
    the mean depends on the choice of layers, not how precise each value is. One layer gives no interval.
    """
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float)
    defined = np.isfinite(numbers)
    if not defined.any():
        return missing("not defined in any matrix")
    mean = float(numbers[defined].mean())
    sums, counts = cluster_sums(numbers[defined], layers.to_numpy()[defined])
    if len(sums) < 2:
        return Interval(mean, reason="one layer, so no interval")
    weights_br = multiplicities(len(sums), RESAMPLES, np.random.default_rng(seed)).T
    return Interval(mean, *percentile_interval((weights_br @ sums) / (weights_br @ counts)))
