"""Differences between two runs, by matrix and by score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gcwm_viz.probes.values import difference_error
from gcwm_viz.runs.highlights import Scored
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import error_over_tasks, mean_error


def matrix_differences(first: pd.DataFrame, second: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """``first`` − ``second`` of ``columns`` for the matrices in both; rows of ``matrices`` of one step each.

    Step, matrix, layer and family are those of the first, in its order. ``reason``: in which run a value is undefined,
    and why.
    """
    location = ["step", "matrix", "layer", "family"]
    other = second[["matrix", "reason", *columns]]
    both = first[[*location, "reason", *columns]].merge(other, on="matrix", suffixes=("", " of second"))
    out = both[location].copy()
    for column in columns:
        out[column] = both[column].astype(float) - both[f"{column} of second"].astype(float)
    out["reason"] = [
        "; ".join(f"{which} run: {why}" for which, why in (("first", a), ("second", b)) if why)
        for a, b in zip(both["reason"], both["reason of second"], strict=True)
    ]
    return out


def example_differences(first: Run, second: Run, step: int, split: str, metric: str) -> dict[str, np.ndarray]:
    """``first`` − ``second`` of every example (n,) by task; empty unless both runs were scored by the same probe files
    and stored the values of every example."""
    probes = first.store.file.probes.fingerprint
    if not probes or probes != second.store.file.probes.fingerprint:
        return {}
    ours, theirs = first.examples(step, split, metric), second.examples(step, split, metric)
    return {task: ours[task] - theirs[task] for task in ours if task in theirs and len(ours[task]) == len(theirs[task])}


def score_differences(
    first: Scored, second: Scored, step: int, examples: Mapping[str, np.ndarray] | None = None
) -> pd.DataFrame:
    """Index: tasks of both runs; columns first, second, difference = first − second, se of each, and ``paired``.

    ``examples``: differences on the same examples by task (:func:`example_differences`). Where a task has them,
    the standard error is that of paired differences; elsewhere the two scores count as independent, which overestimates
    it for positively correlated scores. NaN where one run lacks the step or the score.
    """
    tasks = [task for task in first.R.columns if task in second.R.columns]

    def at(table: pd.DataFrame) -> np.ndarray:
        if step not in table.index:
            return np.full(len(tasks), np.nan)
        return table.loc[step, tasks].to_numpy(dtype=float)

    out = pd.DataFrame(
        {"first": at(first.R), "first_se": at(first.errors), "second": at(second.R), "second_se": at(second.errors)},
        index=pd.Index(tasks, name="task"),
    )
    out["difference"] = out["first"] - out["second"]
    out["se"] = np.hypot(out["first_se"], out["second_se"])
    pairs = {task: values for task, values in (examples or {}).items() if task in out.index}
    for task, values in pairs.items():
        out.loc[task, "se"] = difference_error(first.metric, torch.from_numpy(values))
    out["paired"] = [task in pairs for task in out.index]
    return out


@dataclass(frozen=True)
class MeanDifference:
    """Mean over tasks of a difference, with its standard error over probe examples and over tasks.

    The error over examples generalises to other examples of these tasks, the error over tasks to other tasks.
    """

    value: float
    se_examples: float
    se_tasks: float
    tasks: int


def mean_difference(differences: pd.DataFrame) -> MeanDifference:
    """Mean of ``score_differences`` over tasks measured in both runs; NaN for none, no error over a single task."""
    measured = differences[differences["difference"].notna()]
    n = len(measured)
    if n == 0:
        return MeanDifference(float("nan"), float("nan"), float("nan"), 0)
    values = measured["difference"].to_numpy(dtype=float, copy=True)  # PyTorch warns of a read-only array
    errors = measured["se"].to_numpy(dtype=float)
    return MeanDifference(float(values.mean()), error_over_tasks(errors), mean_error(torch.from_numpy(values)), n)
