"""Methods side by side over many runs: means with intervals, and differences between runs that share seed and order.

Runs of one seed share base and experts, so intervals resample seeds, and the orders of each with them. Few seeds give
wide or undefined intervals.
"""

from typing import Any

import numpy as np
import pandas as pd

from gcwm_viz.errors import InputError
from gcwm_viz.statistics.resampling import flip_p, mean_interval

PAIR = ["seed", "order"]


def final_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """The last step of every run of a table with one row per run and step."""
    return runs.sort_values("step", kind="stable").groupby(["method", *PAIR], sort=False).tail(1).sort_index()


def method_means(runs: pd.DataFrame, target: str, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Rows (method, mean, low, high, runs, seeds) of `target` at the final step, best mean first.

    low, high: 95 % percentile interval over seeds, NaN for a single seed. Undefined values are left out.
    """
    rows = []
    for method, part in _defined(final_steps(runs), target).groupby("method", sort=False):
        low, high = mean_interval(part[target].to_numpy(dtype=np.float64), part["seed"].to_numpy(), resamples, seed)
        rows.append(
            {
                "method": method,
                "mean": float(part[target].mean()),
                "low": low,
                "high": high,
                "runs": len(part),
                "seeds": part["seed"].nunique(),
            }
        )
    table = pd.DataFrame(rows, columns=["method", "mean", "low", "high", "runs", "seeds"])
    return table.sort_values("mean", ascending=False, ignore_index=True, kind="stable")


def paired_differences(
    runs: pd.DataFrame, target: str, reference: str, *, resamples: int = 2000, shuffles: int = 3000, seed: int = 0
) -> pd.DataFrame:
    """`target` of every other method minus that of `reference` at the final step, over runs of equal seed and order.

    Columns: method; difference: the mean; low, high: 95 % interval over seeds; p: two-sided, from flipping the sign of
    each seed's differences (all of them up to 2^12, else `shuffles` random ones; with n seeds it is at least 2/2^n);
    pairs, seeds. Methods without a common run are left out. Raises InputError when `reference` has no runs.
    """
    final = _defined(final_steps(runs), target)
    base = final[final["method"] == reference].set_index(PAIR)[target]
    if base.empty:
        raise InputError(f"table of runs: expected runs of {reference!r} to compare with, found none")
    rows: list[dict[str, Any]] = []
    for method, part in final[final["method"] != reference].groupby("method", sort=False):
        change = (part.set_index(PAIR)[target] - base).dropna()
        if change.empty:
            continue
        values = change.to_numpy(dtype=np.float64)
        seeds = change.index.get_level_values("seed").to_numpy()
        low, high = mean_interval(values, seeds, resamples, seed)
        rows.append(
            {
                "method": method,
                "difference": float(values.mean()),
                "low": low,
                "high": high,
                "p": flip_p(values, seeds, shuffles, seed),
                "pairs": len(values),
                "seeds": len(np.unique(seeds)),
            }
        )
    table = pd.DataFrame(rows, columns=["method", "difference", "low", "high", "p", "pairs", "seeds"])
    return table.sort_values("difference", ascending=False, ignore_index=True, kind="stable")


def final_scores(scores: pd.DataFrame, split: str, metric: str) -> pd.DataFrame:
    """Mean score at the final step, one row per method and one column per task; first `experts`, each on its own task.

    scores: the study's table of this name. Means are over seeds and orders; NaN where a task was never scored.
    """
    rows = scores[(scores["split"] == split) & (scores["metric"] == metric)]
    experts = rows[(rows["model"] == "expert") & (rows["update"] == rows["task"])]
    merged = rows[rows["model"] == "step"]
    last = merged["step"] == merged.groupby(["method", *PAIR])["step"].transform("max")
    means = merged[last].pivot_table(index="method", columns="task", values="value", sort=False)
    own = experts.groupby("task", sort=False)["value"].mean().to_frame("experts").T
    return pd.concat([own, means.reindex(columns=own.columns.union(means.columns, sort=False))])


def _defined(final: pd.DataFrame, target: str) -> pd.DataFrame:
    if target not in final.columns:
        raise InputError(f"table of runs: expected a column {target!r}, found {', '.join(map(str, final.columns))}")
    return final.dropna(subset=[target])
