"""Does a signal go with a target? Rank correlation over the steps of many runs, with its uncertainty (App. E).

Rows of one run depend on each other, so the interval resamples whole runs. Signals and targets both grow with time, so
their common trend is separated by the partial correlation given the step, and by permutations of whole trajectories
between runs.

Shape suffixes: n = rows, b = resamples, r = runs, t = steps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr

from gcwm_viz.errors import InputError
from gcwm_viz.statistics.resampling import multiplicities, percentile_interval, random_p

Array = NDArray[np.float64]
NAN = float("nan")
RUN = ("method", "seed", "order")
"""Columns that together identify a run, the cluster of the bootstrap."""
EQUAL = 4096 * np.finfo(np.float64).eps
"""n·eps: rounding difference of equal rank correlations of some thousand rows. Unequal ones differ by at least 6/n³."""


def association(
    runs: pd.DataFrame,
    signals: Sequence[str],
    targets: Sequence[str],
    *,
    by: str | None = "method",
    resamples: int = 2000,
    shuffles: int = 3000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every signal against every target, one row each, for each value of `by` (None: all rows together).

    `runs`: one row per run and step, with columns step, method, seed, order, and the signals and targets.
    Columns of the result: `by`; signal; target; rows, runs: numbers used, where both are defined; rho: Spearman's ρ in
    [-1, 1]; low, high: 95 % percentile bootstrap interval over runs; p: two-sided permutation p of shuffled rows, in
    (0, 1]; p_runs: the same for whole trajectories permuted between runs, which preserves the trend in time
    and the dependence within a run; partial, partial_low, partial_high: ρ given the step index; reason: why something
    is NaN. Raises InputError for a column that is missing.
    """
    needed = ["step", *RUN, *signals, *targets, *([by] if by else [])]
    missing = [name for name in needed if name not in runs.columns]
    if missing:
        raise InputError(f"table of runs: expected a column {missing[0]!r}, found {', '.join(map(str, runs.columns))}")
    groups = list(runs.groupby(by, sort=False)) if by else [(None, runs)]
    rows = []
    for value, group in groups:
        for signal in signals:
            for target in targets:
                rng = np.random.default_rng(seed)  # an entry does not depend on which others are requested
                row = associate(group, signal, target, resamples=resamples, shuffles=shuffles, rng=rng)
                rows.append(({by: value} if by else {}) | {"signal": signal, "target": target} | row)
    return pd.DataFrame(rows)


def associate(
    runs: pd.DataFrame, signal: str, target: str, *, resamples: int, shuffles: int, rng: np.random.Generator
) -> dict[str, Any]:
    """One entry of :func:`association`."""
    table = runs[[*RUN, "step", signal, target]].replace([np.inf, -np.inf], np.nan).dropna(subset=[signal, target])
    cluster_n = table.groupby(list(RUN), sort=False).ngroup().to_numpy()
    x_n, y_n, step_n = (table[name].to_numpy(dtype=np.float64) for name in (signal, target, "step"))
    r = int(cluster_n.max()) + 1 if len(table) else 0
    row: dict[str, Any] = {"rows": len(table), "runs": r}
    row |= dict.fromkeys(("rho", "low", "high", "p", "p_runs", "partial", "partial_low", "partial_high"), NAN)
    if len(table) < 3:
        return row | {"reason": "fewer than three rows where both are defined"}
    if np.ptp(x_n) == 0 or np.ptp(y_n) == 0:
        return row | {"reason": f"{signal if np.ptp(x_n) == 0 else target} is constant"}
    row["rho"] = float(spearmanr(x_n, y_n).statistic)
    least = abs(row["rho"]) - EQUAL
    row["p"] = random_p(_shuffled(x_n, y_n, shuffles, rng), least)
    ones = np.ones((len(table), 1))
    row["partial"] = float(weighted_partial(x_n, y_n, step_n, ones)[0])
    if r < 2:
        return row | {"reason": "one run: no interval over runs"}
    weights_nb = multiplicities(r, resamples, rng)[cluster_n]
    row["low"], row["high"] = percentile_interval(weighted_spearman(x_n, y_n, weights_nb))
    row["partial_low"], row["partial_high"] = percentile_interval(weighted_partial(x_n, y_n, step_n, weights_nb))
    permuted = _permuted_runs(x_n, y_n, step_n, cluster_n, shuffles, rng)
    if permuted is not None:
        row["p_runs"] = random_p(permuted, least)
    reasons = [] if permuted is not None else ["runs have different steps, so trajectories cannot be traded"]
    if np.isnan(row["partial"]):
        reasons.append("the step decides the signal or the target, so nothing is left given it")
    return row | {"reason": "; ".join(reasons)}


def weighted_spearman(x_n: Array, y_n: Array, weights_nb: Array) -> Array:
    """Spearman's ρ (b,) of b samples in which row n occurs weights_nb[n, b] times; ties share their mean rank.

    For integer weights this is ρ of the sample with its rows repeated. NaN where a sample is constant.
    """
    return _correlation(_ranks(x_n, weights_nb), _ranks(y_n, weights_nb), weights_nb)


def weighted_partial(x_n: Array, y_n: Array, z_n: Array, weights_nb: Array) -> Array:
    """ρ_xy·z = (ρ_xy − ρ_xz ρ_yz) / √((1 − ρ_xz²)(1 − ρ_yz²)) in [-1, 1], (b,), of samples as in
    :func:`weighted_spearman`; ρ_xy for a constant z, NaN where z determines x or y."""
    ranks = [_ranks(values, weights_nb) for values in (x_n, y_n, z_n)]
    xy, xz, yz = (_correlation(ranks[i], ranks[j], weights_nb) for i, j in ((0, 1), (0, 2), (1, 2)))
    constant = np.ptp(z_n) == 0
    xz, yz = (np.zeros_like(xy), np.zeros_like(xy)) if constant else (xz, yz)
    rest = (1 - xz**2) * (1 - yz**2)
    return np.where(rest > EQUAL, (xy - xz * yz) / np.sqrt(np.maximum(rest, EQUAL)), NAN)


def _ranks(values_n: Array, weights_nb: Array) -> Array:
    """Mid-ranks (n, b) up to a constant: half the weight of a tie counts as below it."""
    order = np.argsort(values_n, kind="stable")
    ordered = values_n[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    tied = np.add.reduceat(weights_nb[order], starts, axis=0)
    middle = np.cumsum(tied, axis=0) - 0.5 * tied
    return middle[np.searchsorted(ordered[starts], values_n)]


def _correlation(a_nb: Array, b_nb: Array, weights_nb: Array) -> Array:
    total = weights_nb.sum(0)
    a = a_nb - (weights_nb * a_nb).sum(0) / total
    b = b_nb - (weights_nb * b_nb).sum(0) / total
    product = (weights_nb * a * b).sum(0)
    scale = np.sqrt((weights_nb * a * a).sum(0) * (weights_nb * b * b).sum(0))
    # Ranks differ by at least half a row: a smaller scale is the rounding of a constant.
    return np.clip(np.where(scale > 1e-9, product / np.maximum(scale, 1e-9), NAN), -1.0, 1.0)


def _shuffled(x_n: Array, y_n: Array, shuffles: int, rng: np.random.Generator) -> Array:
    x, y = _standard(rankdata(x_n)), _standard(rankdata(y_n))
    # A shuffle is an order of rows: one matrix of random keys sorts all of them at once.
    null = np.empty(shuffles)
    chunk = max(1, 4_000_000 // len(x))
    for first in range(0, shuffles, chunk):
        size = min(chunk, shuffles - first)
        null[first : first + size] = y[np.argsort(rng.random((size, len(x))), axis=1)] @ x
    return null


def _permuted_runs(
    x_n: Array, y_n: Array, step_n: Array, cluster_n: NDArray[np.integer[Any]], shuffles: int, rng: np.random.Generator
) -> Array | None:
    """ρ (b,) with the target's trajectories permuted between runs; None unless all runs have the same steps."""
    order = np.lexsort((step_n, cluster_n))
    r = int(cluster_n.max()) + 1
    if len(x_n) % r or np.any(np.bincount(cluster_n) != len(x_n) // r):
        return None
    steps_rt = step_n[order].reshape(r, -1)
    if np.any(steps_rt != steps_rt[0]):
        return None
    x, y = _standard(rankdata(x_n[order])), _standard(rankdata(y_n[order])).reshape(r, -1)
    permutations = np.argsort(rng.random((shuffles, r)), axis=1)
    correlations: Array = y[permutations].reshape(shuffles, -1) @ x
    return correlations


def _standard(ranks_n: Array) -> Array:
    centred = ranks_n - ranks_n.mean()
    standard: Array = centred / np.sqrt(np.sum(centred**2))
    return standard
