"""What a run measured of each update: at its own step, by its expert, and by leaving it out.

More is better for every score: differences of NLL and perplexity have their sign changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.probes.metrics import METRICS, rows_of_metric
from gcwm_viz.probes.scores import score_matrix
from gcwm_viz.statistics.interval import Interval, from_error, missing
from gcwm_viz.statistics.means import error_over_tasks

NOT_MEASURED = "not measured; run leave-one-out"
TRAINED = "not measured; sequential fine-tuning has no merge to leave an update out of"


@dataclass(frozen=True)
class Candidate:
    """Evidence on one update, in the metric's unit, more = better.

    step: its arrival, from 1. Effects at its own step, to which later updates add nothing: gain, score on its own task
    right after its step minus right before; drop, mean loss of the earlier tasks, above zero = they lost. alone: score
    of its own expert on its task minus the base's.

    Leave-one-out: others, mean change of the other tasks when it is left out, above zero = they are better without it;
    overall, the same for all tasks.
    """

    update: str
    step: int
    gain: Interval
    alone: Interval
    drop: Interval
    others: Interval
    overall: Interval


def candidates(tables: Mapping[str, pd.DataFrame], split: str = "dev", metric: str = "em") -> list[Candidate]:
    """One candidate an update, in order of arrival. Uses the tables matrices, scores and leave_one_out."""
    matrices = tables["matrices"]
    arrivals = matrices[["step", "update"]].drop_duplicates().sort_values("step")
    order = list(arrivals["update"])
    unknown = TRAINED if (matrices["mode"] == "trained").any() else NOT_MEASURED
    R, errors = (score_matrix(tables["scores"], split, metric, column) for column in ("value", "se"))
    R = R if METRICS[metric] else -R
    entries = []
    for step, update in zip(arrivals["step"], order, strict=True):
        others = left_out_effects(tables["leave_one_out"], update, split, metric)
        earlier = order[: int(step) - 1]
        entries.append(
            Candidate(
                update=update,
                step=int(step),
                gain=_at_step(R, errors, int(step), [update], "this run has no probes of it"),
                alone=_alone(tables["scores"], update, split, metric),
                drop=_at_step(R, errors, int(step), earlier, "this run has no probes of an earlier task").negated
                if earlier
                else missing("no task came before it"),
                others=_mean_effect(others[~others["own"]], unknown),
                overall=_mean_effect(others, unknown),
            )
        )
    return entries


def left_out_effects(table: pd.DataFrame, update: str, split: str, metric: str) -> pd.DataFrame:
    """Change of every task without ``update``: task, own (its own task), change (more = better without it), se, n."""
    rows = rows_of_metric(table[(table["left_out"] == update) & (table["split"] == split)], metric)
    sign = 1.0 if METRICS[metric] else -1.0
    return pd.DataFrame(
        {
            "task": rows["task"],
            "own": (rows["task"] == update).astype(bool),
            "change": sign * rows["difference"].astype(float),
            "se": rows["difference_se"].astype(float),
            "n": rows["n"],
        }
    ).reset_index(drop=True)


def _at_step(R: pd.DataFrame, errors: pd.DataFrame, step: int, tasks: list[str], reason: str) -> Interval:
    """Mean change of ``tasks`` from the step before ``step`` (the base before the first) to it in R, where more is
    better; ``reason``: where none of the tasks was probed."""
    probed = [task for task in tasks if task in R.columns]
    if not probed or not {step - 1, step} <= set(R.index):
        return missing(f"not measured; {reason}" if not probed else "not measured at its step and before")
    (before, after), (se_before, se_after) = (
        table.loc[[step - 1, step], probed].to_numpy(dtype=float) for table in (R, errors)
    )
    return _mean_change(after - before, np.hypot(se_before, se_after))


def _alone(scores: pd.DataFrame, task: str, split: str, metric: str) -> Interval:
    """The task's own expert minus the base, with the errors of both as independent."""
    rows = rows_of_metric(scores[(scores["task"] == task) & (scores["split"] == split)], metric)
    base, expert = rows[rows["model"] == "base"], rows[(rows["model"] == "expert") & (rows["update"] == task)]
    if len(base) != 1 or len(expert) != 1:
        return missing("not measured")
    sign = 1.0 if METRICS[metric] else -1.0
    change = sign * (float(expert["value"].iloc[0]) - float(base["value"].iloc[0]))
    return from_error(change, float(np.hypot(float(expert["se"].iloc[0]), float(base["se"].iloc[0]))))


def _mean_effect(rows: pd.DataFrame, reason: str) -> Interval:
    if not len(rows):
        return missing(reason)
    return _mean_change(rows["change"].to_numpy(dtype=float), rows["se"].to_numpy(dtype=float))


def _mean_change(change: np.ndarray, se: np.ndarray) -> Interval:
    """Mean over tasks."""
    return from_error(float(change.mean()), error_over_tasks(se))
