"""Is the harm where a signal is high? Rank correlation over the cells of one task and step, and its mean over many.

A study over steps asks whether steps of high conflict forget more. Here the units are matrices: within one step,
do the matrices of high conflict do the harm?
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from gcwm_viz.attribution.path import ABSOLUTE
from gcwm_viz.attribution.roles import by_arrival, role
from gcwm_viz.errors import InputError
from gcwm_viz.statistics.resampling import mean_interval

FEWEST_CELLS = 5
ROUNDING = 1e-12
"""Values that differ by no more are equal but for rounding: at η = 1 the first state conflict is 0 up to 1e-15."""
FEWEST_CLUSTERS = 5
"""Fewer give no interval: it lies within the range of the clusters' means, and the range of four covers a symmetric
centre with probability 1 − 2⁻³ = 88 %."""
_CORRELATIONS = ["signal", "start", "step", "task", "role", "rho", "cells", "reason"]
_SUMMARY = ["signal", "rho", "low", "high", "pairs", "clusters", "reason"]


def spatial_correlations(
    attribution: pd.DataFrame, matrices: pd.DataFrame, columns: Sequence[str], *, order: Sequence[str]
) -> pd.DataFrame:
    """Spearman's ρ over cells of every signal with the attribution of every task and step.

    attribution: rows of one run and split (start, step, task, matrix, layer, value in nats, positive = harm). Paths
    other than single steps are left out, since a signal belongs to a step, and so are tensors outside the target
    matrices. matrices: rows of the run's table (step, matrix, and ``columns``). order: update names by arrival.

    Rows by step, task in order of arrival, and signal: signal; start, step; task; role (earlier, arrived, later at
    this step; other: no update of its name); rho in [-1, 1], positive = harm is where the signal is high; cells: how
    many have both, finite; reason: why rho is NaN, which it is for fewer than five cells and for constant values.
    Raises InputError for a column that is missing, and for a matrix that occurs twice.
    """
    if len(set(columns)) < len(columns):
        raise InputError(f"columns: expected each signal once, found {', '.join(columns)}")
    _check(attribution, ["start", "step", "task", "matrix", "layer", "value"], "attribution")
    _check(matrices, ["step", "matrix", *columns], "matrices")
    _check_once(attribution, ["start", "step", "task", "matrix"], "attribution", "of one split")
    _check_once(matrices, ["step", "matrix"], "matrices", "of one run")
    cells = attribution[(attribution["start"] == attribution["step"] - 1) & (attribution["layer"] >= 0)]
    signals = matrices.set_index(["step", "matrix"])[list(columns)]
    aligned = signals.reindex(pd.MultiIndex.from_frame(cells[["step", "matrix"]])).to_numpy(dtype=np.float64)
    value_n, at_n = cells["value"].to_numpy(dtype=np.float64), np.arange(len(cells))
    rows: list[dict[str, Any]] = []
    for step in sorted(int(step) for step in cells["step"].unique()):
        here = cells["step"].to_numpy() == step
        for task in by_arrival(sorted(cells.loc[here, "task"].unique()), order):
            own = at_n[here & (cells["task"].to_numpy() == task)]
            pair = {"start": step - 1, "step": step, "task": task, "role": role(task, step, order)}
            for k, signal in enumerate(columns):
                rows.append({"signal": signal} | pair | rank_correlation(aligned[own, k], value_n[own], signal))
    return pd.DataFrame(rows, columns=_CORRELATIONS)


def forgetting_pairs(correlations: pd.DataFrame, attribution: pd.DataFrame) -> pd.DataFrame:
    """The rows of earlier tasks whose loss rose at the step, by more than the residual allows (0.001 nats).

    attribution: rows of the same runs and split, with every column that both tables have to tell runs apart.
    """
    shared = [name for name in ("method", "seed", "order", "step", "task") if name in correlations]
    rose = attribution.loc[attribution["change"].astype(float) > ABSOLUTE]
    if "start" in rose:
        rose = rose[rose["start"] == rose["step"] - 1]
    earlier = correlations[correlations["role"] == "earlier"]
    return earlier.merge(rose[shared].drop_duplicates(), on=shared)


def spatial_summary(
    correlations: pd.DataFrame, *, cluster: Sequence[str], resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Mean ρ of every signal over (task, step) pairs, with a 95 % percentile bootstrap interval over clusters.

    correlations: rows of :func:`spatial_correlations`, of the roles that the question is about; those of several runs
    with columns that tell the runs apart. cluster: the columns that together name a cluster. Pairs of one step share
    its weights and its signals, so within a run a cluster is a step (``["step"]``); in a study it is a run.

    Columns: signal; rho in [-1, 1], every defined pair with equal weight; low, high; pairs and clusters in use;
    reason: why something is NaN. Fewer than five clusters give no interval.

    The interval covers the choice of clusters alone: steps like these, or runs like these. It says nothing about the
    error of each ρ, about other tasks, or about other runs where the clusters are the steps of one run. With few
    clusters it is too narrow: that of r clusters with normal means covered the truth in 81 % of 1,500 draws for r = 5,
    87 % for 6, 89 % for 10 and 93 % for 18. Raises InputError for a column that is missing.
    """
    _check(correlations, ["signal", "rho", "reason", *cluster], "correlations")
    rows: list[dict[str, Any]] = []
    for signal, part in correlations.groupby("signal", sort=False):
        row: dict[str, Any] = {"signal": signal, "rho": math.nan, "low": math.nan, "high": math.nan}
        defined = part[part["rho"].notna()]
        # Sorted, so that a cluster's number, and with it the resamples, do not depend on the order of rows.
        cluster_n = defined.groupby(list(cluster), sort=True, dropna=False).ngroup().to_numpy()
        row |= {"pairs": len(defined), "clusters": len(np.unique(cluster_n)), "reason": ""}
        if defined.empty:
            row["reason"] = Counter(part["reason"]).most_common(1)[0][0]
        else:
            rho_n = defined["rho"].to_numpy(dtype=np.float64)
            row["rho"] = float(rho_n.mean())
            if row["clusters"] < FEWEST_CLUSTERS:
                row["reason"] = f"an interval takes {FEWEST_CLUSTERS} clusters, found {row['clusters']}"
            else:
                row["low"], row["high"] = mean_interval(rho_n, cluster_n, resamples, seed)
        rows.append(row)
    return pd.DataFrame(rows, columns=_SUMMARY)


def rank_correlation(signal_n: NDArray[np.float64], value_n: NDArray[np.float64], signal: str) -> dict[str, Any]:
    """{rho, cells, reason} of two values a cell: Spearman's ρ over cells where both are finite; NaN with its reason."""
    both = np.isfinite(signal_n) & np.isfinite(value_n)
    x_n, y_n = signal_n[both], value_n[both]
    row = {"rho": math.nan, "cells": len(x_n), "reason": ""}
    if len(x_n) < FEWEST_CELLS:
        return row | {"reason": f"expected at least {FEWEST_CELLS} cells where both are defined, found {len(x_n)}"}
    if np.ptp(x_n) <= ROUNDING or np.ptp(y_n) <= ROUNDING:
        same = signal if np.ptp(x_n) <= ROUNDING else "the attribution"
        return row | {"reason": f"{same} is the same in all cells"}
    return row | {"rho": float(spearmanr(x_n, y_n).statistic)}


def _check(table: pd.DataFrame, needed: Sequence[str], name: str) -> None:
    missing = [column for column in needed if column not in table.columns]
    if missing:
        raise InputError(
            f"table {name}: expected a column {missing[0]!r}, found {', '.join(map(str, table.columns)) or 'none'}"
        )


def _check_once(table: pd.DataFrame, key: list[str], name: str, of: str) -> None:
    double = table.duplicated(key)
    if double.any():
        row = table[double].iloc[0]
        raise InputError(
            f"table {name}: expected rows {of}, found {row['matrix']!r} twice for "
            + ", ".join(f"{column} {row[column]}" for column in key if column != "matrix")
        )
