"""Uncertainty of means: standard errors, and how many of them a normal interval spans. Shape suffix: n examples."""

import math

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

Z95 = 1.959964
"""Standard errors on either side of an estimate that a 95 % interval spans; it is behind every "±" and error bar."""
Z95_OF_FOUR = 2.50
"""The same for the best of four estimates, each tested alone at 5 % / 4 (Bonferroni)."""


def mean_error(values_n: Tensor) -> float:
    """Standard error of the mean over examples, NaN for one value."""
    return float(values_n.std(correction=1)) / math.sqrt(len(values_n)) if len(values_n) > 1 else math.nan


def share_error(share: float, n: int) -> float:
    """Binomial standard error of a share in [0, 1] of n independent trials."""
    return math.sqrt(share * (1 - share) / n)


def paired_error(differences_n: Tensor, *, share: bool) -> float:
    """Standard error of the mean paired difference of two models on the same examples; ``share``: each gives 0 or 1.

    Where no answer changes, the sample spread is zero but the uncertainty is not: the error of paired proportions is at
    least that of half a changed answer either way in n + 2 examples (Agresti and Min 2005, doi:10.1002/sim.1781).
    """
    error, n = mean_error(differences_n), len(differences_n)
    return max(error, 1.0 / (n + 2)) if share and not math.isnan(error) else error


def error_over_tasks(errors: ArrayLike) -> float:
    """Standard error of a mean over tasks, whose probes are independent samples, from the standard error of each.

    NaN for no task and where one error is undefined.
    """
    errors = np.asarray(errors, dtype=np.float64)
    return float(np.sqrt(np.sum(np.square(errors))) / len(errors)) if len(errors) else math.nan
