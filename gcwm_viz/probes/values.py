"""Values of a probe on every example, and the scores that follow. Shape suffix: n examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.probes.metrics import is_share
from gcwm_viz.statistics.means import mean_error, paired_error


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
        return [
            {"task": self.name, "split": self.split, "metric": metric}
            | {"value": float(values.mean()), "se": mean_error(values), "n": len(values)}
            for metric, values in self.metrics.items()
        ]


def to_json(values: Sequence[TaskValues]) -> list[Any]:
    """[name, split, {metric: values}] of every task, which :func:`from_json` reads."""
    return [[task.name, task.split, {name: v.tolist() for name, v in task.metrics.items()}] for task in values]


def from_json(stored: Sequence[Any]) -> list[TaskValues]:
    return [
        TaskValues(name, split, {metric: torch.tensor(v, dtype=torch.float64) for metric, v in metrics.items()})
        for name, split, metrics in stored
    ]


def difference_error(metric: str, differences_n: Tensor) -> float:
    """Standard error of the mean paired difference of two models in ``metric`` on the same examples."""
    return paired_error(differences_n, share=is_share(metric))


def ratio_values(totals_n: Tensor, counts_n: Tensor) -> Tensor:
    """Values of each example whose mean is R = Σ totals / Σ counts, and whose spread gives R's standard error.

    v_i = R + (total_i − R·count_i) / mean count, the linearised ratio estimator (Cochran, *Sampling Techniques*,
    chapter 6).
    """
    ratio = totals_n.sum() / counts_n.sum()
    return ratio + (totals_n - ratio * counts_n) / counts_n.mean()
