"""Headline results of a run: its scores on one split, and where conflict is highest."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gcwm_viz.probes.metrics import METRICS, UNITS, headline, rows_of_metric
from gcwm_viz.probes.scores import downstream, expert_scores, score_matrix
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import mean_error


@dataclass(frozen=True)
class Scored:
    """Scores of one split and metric. R, errors (standard errors) and n (examples): index step (0 = base), columns
    tasks; own: score of each task's own expert; downstream: see :func:`gcwm_viz.probes.scores.downstream`."""

    R: pd.DataFrame
    errors: pd.DataFrame
    n: pd.DataFrame
    own: pd.Series
    downstream: pd.DataFrame
    metric: str
    split: str = "test"

    @property
    def higher_is_better(self) -> bool:
        return METRICS[self.metric]

    @property
    def unit(self) -> str:
        return UNITS[self.metric]


def scored(run: Run, split: str = "test", metric: str | None = None) -> Scored | None:
    """Scores of ``run`` on one split, by default in its headline metric there; None where it has none."""
    table = run.tables["scores"]
    steps = table[(table["split"] == split) & (table["model"] == "step")]
    metric = headline(steps) if metric is None else metric
    if rows_of_metric(steps, metric).empty:
        return None
    R, errors, n = (score_matrix(table, split, metric, column) for column in ("value", "se", "n"))
    experts = expert_scores(table, split, metric)
    own = {task: experts.at[task, task] if task in experts.index else np.nan for task in R.columns}
    metrics = downstream(R, run.updates, errors=errors, higher_is_better=METRICS[metric])
    return Scored(
        R=R, errors=errors, n=n, own=pd.Series(own, dtype=float), downstream=metrics, metric=metric, split=split
    )


def ranked(cells: pd.DataFrame, before: pd.DataFrame, column: str) -> pd.DataFrame:
    """``cells``, rows of ``matrices`` of one step, highest value of ``column`` first and undefined ones last.

    Two more columns: ``rank`` from 1, equal values sharing the lowest, and ``change`` from ``before``, the rows of the
    step before; both NaN where undefined.
    """
    values = cells[column].astype(float)
    earlier = cells["matrix"].map(before.set_index("matrix")[column].astype(float))
    table = cells.assign(rank=values.rank(method="min", ascending=False), change=values - earlier)
    return table.loc[values.sort_values(ascending=False, kind="stable").index]


def peak(matrices: pd.DataFrame) -> pd.Series | None:
    """The (step, matrix) row with the highest active conflict, or None where no pair of updates was ever active."""
    conflict = matrices["active_conflict"].to_numpy(dtype=float)
    return None if np.isnan(conflict).all() else matrices.iloc[int(np.nanargmax(conflict))]


def example_changes(run: Run, start: int, step: int, split: str, metric: str) -> dict[str, torch.Tensor]:
    """Change of the value of every example (n,) by task, from one state to another; none for a run without examples."""
    before, after = (run.examples(state, split, metric) for state in (start, step))
    pairs = {task: (before[task], values) for task, values in after.items() if task in before}
    return {
        task: torch.from_numpy(after_n - before_n)
        for task, (before_n, after_n) in pairs.items()
        if before_n.shape == after_n.shape
    }


def loss_errors(run: Run, start: int, step: int, split: str) -> dict[str, float]:
    """Standard error of every task's change of loss from one state to another, nats, paired over its examples."""
    changes = example_changes(run, start, step, split, "nll")
    return {task: mean_error(change_n) for task, change_n in changes.items()}
