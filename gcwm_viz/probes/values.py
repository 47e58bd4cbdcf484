"""What a probe measures on every example, and the scores that this gives. Shape suffix: n examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class TaskValues:
    """Values of every example of one task by metric, (n,) float64 on the CPU; NaN where logits are not finite.

    A score is the mean over examples and its error the standard error of that mean, for every metric: see
    :func:`ratio_values` for those that are ratios over all examples.
    """

    name: str
    split: str
    metrics: dict[str, Tensor]

    def rows(self) -> list[dict[str, Any]]:
        """{task, split, metric, value, se, n} for each metric; se is NaN for one example."""
        place = {"task": self.name, "split": self.split}
        return [place | {"metric": metric, **_summary(values)} for metric, values in self.metrics.items()]


def ratio_values(totals_n: Tensor, counts_n: Tensor) -> Tensor:
    """Values of each example whose mean is R = Σ totals / Σ counts, and whose spread gives R's standard error.

    v_i = R + (total_i − R·count_i) / mean count, the linearised ratio estimator (Cochran, *Sampling Techniques*,
    chapter 6).
    """
    ratio = totals_n.sum() / counts_n.sum()
    return ratio + (totals_n - ratio * counts_n) / counts_n.mean()


def _summary(values: Tensor) -> dict[str, Any]:
    n = len(values)
    se = float(values.std(correction=1)) / math.sqrt(n) if n > 1 else math.nan
    return {"value": float(values.mean()), "se": se, "n": n}
