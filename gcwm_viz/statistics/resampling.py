"""Uncertainty by resampling: bootstrap over clusters, its percentile interval, sign flips and their p.

Rows of one cluster (a run, a seed, a layer) depend on each other, so clusters are resampled, not rows.

Shape suffixes: n = values, r = clusters, b = resamples.
"""

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EXACT_FLIPS = 12
EQUAL = 1e-9
"""Share of their size within which two sums of differences count as equal: above their rounding even where differences
are a millionth of the scores."""


def cluster_sums(values_n: Array, clusters_n: NDArray[Any]) -> tuple[Array, Array]:
    """Sum (r,) and number (r,) of the values of each cluster."""
    _, cluster_n = np.unique(clusters_n, return_inverse=True)
    return np.bincount(cluster_n, weights=values_n).astype(np.float64), np.bincount(cluster_n).astype(np.float64)


def multiplicities(r: int, resamples: int, rng: np.random.Generator) -> Array:
    """(r, b): how often each cluster is drawn when r clusters are drawn with replacement."""
    return rng.multinomial(r, np.full(r, 1.0 / r), size=resamples).T.astype(np.float64)


def percentile_interval(values_b: Array) -> tuple[float, float]:
    """95 % percentile interval; undefined resamples are left out, NaN when none is defined."""
    defined = values_b[~np.isnan(values_b)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def mean_interval(values_n: Array, clusters_n: NDArray[Any], resamples: int, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, clusters drawn with replacement; NaN for a single cluster.

    Draws clusters one by one instead of :func:`multiplicities`: from one seed the two give different resamples, and
    published intervals use these.
    """
    sums, counts = cluster_sums(values_n, clusters_n)
    if len(sums) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    return percentile_interval(sums[drawn].sum(1) / counts[drawn].sum(1))


def random_p(null_b: Array, least: float) -> float:
    """(1 + #{|null| ≥ least}) / (1 + b): never zero, since the observed order counts as one of the draws."""
    return float((1 + np.sum(np.abs(null_b) >= least)) / (1 + len(null_b)))


def flip_p(differences_n: Array, clusters_n: NDArray[Any], shuffles: int, seed: int) -> float:
    """Two-sided p of a mean difference, from flipping the sign of each cluster's differences; NaN for one cluster.

    All flips up to 2^12, else ``shuffles`` random ones; with r clusters it is at least 2/2^r.
    """
    sums, _ = cluster_sums(differences_n, clusters_n)
    r = len(sums)
    if r < 2:
        return math.nan
    least = abs(sums.sum()) - EQUAL * np.abs(sums).sum()
    if r <= EXACT_FLIPS:
        signs = np.array(list(product((-1.0, 1.0), repeat=r)))
        return float(np.mean(np.abs(signs @ sums) >= least))
    return random_p(np.random.default_rng(seed).choice((-1.0, 1.0), (shuffles, r)) @ sums, least)
