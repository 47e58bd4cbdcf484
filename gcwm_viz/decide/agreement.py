"""Agreement, in one run, of predicted conflict with the measured effect of an update on the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test, rankdata

from gcwm_viz.decide.evidence import Candidate

LEAST = 4
"""Fewest updates: fewer have no rank correlation beyond chance."""


@dataclass(frozen=True)
class Agreement:
    """rho: Spearman's ρ in [-1, 1] between an update's conflict with the others and the gain of the others without it,
    above zero = updates of higher conflict cost the others more. p: two-sided permutation p. n: updates with both."""

    rho: float
    p: float
    n: int
    reason: str = ""


def agreement(candidates: Sequence[Candidate], seed: int = 0) -> Agreement:
    """Over the updates whose effect was measured. All pairings where there are at most 3,000, else 3,000 drawn by
    ``seed``."""
    pairs = [(entry.pairwise.value, entry.others.value) for entry in candidates]
    pairs = [pair for pair in pairs if not any(map(math.isnan, pair))]
    if len(pairs) < LEAST:
        return Agreement(math.nan, math.nan, len(pairs), f"needs {LEAST} measured updates")
    conflict, harm = (rankdata(values) for values in zip(*pairs, strict=True))
    if not conflict.std() or not harm.std():
        return Agreement(math.nan, math.nan, len(pairs), "all values are equal")
    test = permutation_test(
        (conflict,),
        lambda ranks: float(np.corrcoef(ranks, harm)[0, 1]),
        permutation_type="pairings",
        n_resamples=3000,
        vectorized=False,
        rng=np.random.default_rng(seed),
    )
    return Agreement(float(test.statistic), float(test.pvalue), len(pairs))
