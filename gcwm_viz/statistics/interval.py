"""A number with its 95 % interval."""

import math
from dataclasses import dataclass
from typing import Literal

from gcwm_viz.statistics.means import Z95

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
