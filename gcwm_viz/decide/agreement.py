"""Whether predicted conflict tells, in this run, which updates cost the others: the prediction held to account."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test, rankdata

from gcwm_viz.decide.evidence import Candidate

LEAST = 4
"""Fewer updates than this have no rank correlation that chance could not give."""


@dataclass(frozen=True)
class Agreement:
    """rho: Spearman's ρ in [-1, 1] between conflict with the others and the gain of the others when an update is left
    out, above zero = conflict tells who costs the others. p: two-sided permutation p. n: updates with both."""

    rho: float
    p: float
    n: int
    reason: str = ""


def agreement(candidates: Sequence[Candidate], seed: int = 0) -> Agreement:
    """Over the updates whose effect was measured. Every pairing is tried where there are at most 3,000, else 3,000
    seeded ones."""
    known = [(entry.pairwise.value, entry.others.value) for entry in candidates]
    known = [pair for pair in known if not any(map(math.isnan, pair))]
    if len(known) < LEAST:
        return Agreement(math.nan, math.nan, len(known), f"needs {LEAST} measured updates")
    conflict, harm = (rankdata(values) for values in zip(*known, strict=True))
    if not conflict.std() or not harm.std():
        return Agreement(math.nan, math.nan, len(known), "all values are equal")
    found = permutation_test(
        (conflict,),
        lambda ranks: float(np.corrcoef(ranks, harm)[0, 1]),
        permutation_type="pairings",
        n_resamples=3000,
        vectorized=False,
        rng=np.random.default_rng(seed),
    )
    return Agreement(float(found.statistic), float(found.pvalue), len(known))
