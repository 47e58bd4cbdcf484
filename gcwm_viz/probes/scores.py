"""Continual-learning metrics: the score matrix R[t, u] and what follows from it.

R[t, u] is the score on task u after step t; row 0 is the base. A task pairs with the update of the same name, and
"earlier tasks" at step t are those whose update arrived before t. Higher scores are better unless stated otherwise;
for losses (NLL) pass higher_is_better=False: signs are changed so that every difference below keeps its meaning.

A value with a missing or undefined argument is NaN, never zero.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import rows_of_metric
from gcwm_viz.statistics.means import error_over_tasks


def score_matrix(scores: pd.DataFrame, split: str, metric: str, value: str = "value") -> pd.DataFrame:
    """R from the `scores` table: index step (0 = base), columns tasks by arrival, those without an update last.

    `value="se"` gives the standard errors in the same layout. Cells that were not measured are NaN. Raises InputError
    when a cell was measured twice.
    """
    rows = rows_of_metric(scores[scores["model"].isin(["base", "step"]) & (scores["split"] == split)], metric)
    double = rows.duplicated(["step", "task"])
    if double.any():
        row = rows[double].iloc[0]
        raise InputError(
            f"scores: expected one {metric} of task {row['task']!r} at step {row['step']} on {split}, found several"
        )
    arrival = scores[scores["model"] == "step"].sort_values("step", kind="stable")["update"].drop_duplicates()
    tasks = list(rows["task"].drop_duplicates())
    ordered = [u for u in arrival if u in tasks]
    ordered += [t for t in tasks if t not in ordered]
    matrix = rows.pivot(index="step", columns="task", values=value).reindex(columns=ordered).sort_index()
    matrix.columns.name = "task"
    return matrix.astype("float64")


def expert_scores(scores: pd.DataFrame, split: str, metric: str) -> pd.DataFrame:
    """E[i, u]: score of expert i (index: update name, in order) on task u, columns as the table gives them."""
    rows = rows_of_metric(scores[(scores["model"] == "expert") & (scores["split"] == split)], metric)
    rows = rows.sort_values("step", kind="stable")
    matrix = rows.pivot(index="update", columns="task", values="value")
    return matrix.reindex(
        index=list(rows["update"].drop_duplicates()), columns=list(rows["task"].drop_duplicates())
    ).astype("float64")


def forgetting_matrix(R: pd.DataFrame, *, higher_is_better: bool = True) -> pd.DataFrame:
    """F[t, u] = best score on u before step t (the base included) − R[t, u]; positive = lost. Row 0 is NaN.

    Same shape as R. NaN before and at a NaN score: a best over unknown scores is unknown.
    """
    signed = R if higher_is_better else -R
    values = signed.to_numpy(dtype=np.float64)
    best = np.maximum.accumulate(values, axis=0)  # propagates NaN
    out = np.full_like(values, np.nan)
    out[1:] = best[:-1] - values[1:]
    return pd.DataFrame(out, index=R.index, columns=R.columns)


def immediate_drop_matrix(R: pd.DataFrame, *, higher_is_better: bool = True) -> pd.DataFrame:
    """R[t, u] − R[t−1, u], negative = lost in this step, for losses too."""
    return (R if higher_is_better else -R).diff()


def downstream(
    R: pd.DataFrame, order: Sequence[str], *, errors: pd.DataFrame | None = None, higher_is_better: bool = True
) -> pd.DataFrame:
    """Metrics per step (index: the steps of R; step t is the arrival of order[t−1]).

    overall         mean of R[t, ·] over all tasks
    old_mean        mean of R[t, u] over earlier tasks
    current         R[t, order[t−1]]
    learned         mean over u ≤ t of R[u, u], the score of each task just after its own step
    forgetting      mean over earlier tasks of the best previous score minus R[t, u]; positive = lost
    immediate_drop  mean over earlier tasks of R[t, u] − R[t−1, u]; negative = lost
    bwt             mean over earlier tasks of R[t, u] − R[u, u]; negative = lost
    fwt             mean over 2 ≤ u ≤ t of R[u−1, u] − R[0, u]; positive = earlier steps helped
    plasticity_gap  current − old_mean; positive = new skill kept at the cost of old ones

    overall, old_mean, current and learned are in R's unit; differences change their sign for losses. With `errors`
    (standard errors in R's layout) overall_se, old_mean_se and current_se are added, with the tasks' probes as
    independent. Raises InputError for an order shorter than R's last step or with a name twice.
    """
    order = list(order)
    steps = [int(t) for t in R.index]
    if len(set(order)) != len(order):
        raise InputError(f"order: expected each update once, found {order}")
    if steps and max(steps) > len(order):
        raise InputError(f"order: expected at least {max(steps)} updates for the steps of R, found {len(order)}")
    sign = 1.0 if higher_is_better else -1.0
    forgetting = forgetting_matrix(R, higher_is_better=higher_is_better)
    drops = immediate_drop_matrix(R, higher_is_better=higher_is_better)

    rows = []
    for t in steps:
        earlier = [u for u in order[: max(t - 1, 0)] if u in R.columns]
        arrived = [(i, u) for i, u in enumerate(order[:t], start=1) if u in R.columns]
        current = _cell(R, t, order[t - 1]) if t > 0 else float("nan")
        old_mean = _mean([_cell(R, t, u) for u in earlier])
        row = {
            "overall": _mean([_cell(R, t, u) for u in R.columns]),
            "old_mean": old_mean,
            "current": current,
            "learned": _mean([_cell(R, i, u) for i, u in arrived]),
            "forgetting": _mean([_cell(forgetting, t, u) for u in earlier]),
            "immediate_drop": _mean([_cell(drops, t, u) for u in earlier]),
            "bwt": sign * _mean([_cell(R, t, u) - _cell(R, order.index(u) + 1, u) for u in earlier]),
            "fwt": sign * _mean([_cell(R, i - 1, u) - _cell(R, 0, u) for i, u in arrived if i >= 2]),
            "plasticity_gap": sign * (current - old_mean),
        }
        if errors is not None:
            row["overall_se"] = error_over_tasks([_cell(errors, t, u) for u in R.columns])
            row["old_mean_se"] = error_over_tasks([_cell(errors, t, u) for u in earlier])
            row["current_se"] = _cell(errors, t, order[t - 1]) if t > 0 else float("nan")
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index(steps, name="step"))


def _cell(table: pd.DataFrame, step: int, task: str) -> float:
    """One score, NaN where the step or the task was not measured."""
    if step not in table.index or task not in table.columns:
        return float("nan")
    return float(table[task].to_numpy(dtype=np.float64)[table.index.get_loc(step)])


def _mean(values: Sequence[float]) -> float:
    """NaN for no values and for any NaN among them."""
    return float(np.mean(values)) if len(values) else float("nan")
