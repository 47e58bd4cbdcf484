"""Evidence on each update of a run, from its tables: conflict, and effects on probe scores.

More is better for every score: differences of NLL and perplexity have their sign changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.geometry.gate import gate
from gcwm_viz.merging.registry import get_method
from gcwm_viz.probes.metrics import METRICS, rows_of_metric
from gcwm_viz.probes.scores import score_matrix
from gcwm_viz.statistics.interval import Interval, from_error, mean_over_matrices, missing
from gcwm_viz.statistics.means import error_over_tasks

NOT_MEASURED = "not measured; run leave-one-out"
TRAINED = "not measured; sequential fine-tuning has no merge to leave an update out of"
PLACE = ["matrix", "layer", "family"]


@dataclass(frozen=True)
class Candidate:
    """Evidence on one update. Conflicts and α in [0, 1]; scores in the metric's unit, more = better.

    step: its arrival, from 1. incoming: mean γ between the state before its step and the update. pairwise: mean γ with
    every other update. alpha: mean gate value at its conflict with the others.

    Effects at its own step, to which later updates add nothing: gain, score on its own task right after its step minus
    right before; drop, mean loss of the earlier tasks, above zero = they lost. alone: score of its own expert on its
    task minus the base's.

    Leave-one-out: others, mean change of the other tasks when it is left out, above zero = they are better without it;
    overall, the same for all tasks.
    """

    update: str
    step: int
    incoming: Interval
    pairwise: Interval
    alpha: Interval
    gain: Interval
    alone: Interval
    drop: Interval
    others: Interval
    overall: Interval


def candidates(
    tables: Mapping[str, pd.DataFrame], settings: RunSettings, split: str = "dev", metric: str = "em"
) -> list[Candidate]:
    """One candidate an update, in order of arrival. Uses the tables matrices, pairs, scores and leave_one_out."""
    matrices = tables["matrices"]
    pairs = latest_pairs(tables["pairs"])
    arrivals = matrices[["step", "update"]].drop_duplicates().sort_values("step")
    order = list(arrivals["update"])
    unknown = TRAINED if (matrices["mode"] == "trained").any() else NOT_MEASURED
    entries = []
    for step, update in zip(arrivals["step"], arrivals["update"], strict=True):
        cells = by_place(matrices, pairs, settings, update)
        others = left_out_effects(tables["leave_one_out"], update, split, metric)
        entries.append(
            Candidate(
                update=update,
                step=int(step),
                incoming=missing("no state before the first step")
                if step == 1
                else mean_over_matrices(cells["incoming_conflict"], cells["layer"]),
                pairwise=_or(cells, "pair_conflict", "never active together with another update"),
                alpha=_or(cells, "pair_alpha", _no_gate(settings) or "no conflict with another update to gate on"),
                gain=_at_step(tables["scores"], int(step), [update], split, metric, "this run has no probes of it"),
                alone=_alone(tables["scores"], update, split, metric),
                drop=missing("no task came before it")
                if step == 1
                else _at_step(
                    tables["scores"],
                    int(step),
                    order[: int(step) - 1],
                    split,
                    metric,
                    "this run has no probes of an earlier task",
                ).negated,
                others=_mean_effect(others[~others["own"]], unknown),
                overall=_mean_effect(others, unknown),
            )
        )
    return entries


def latest_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Rows of active pairs, each pair of updates at each matrix once, at its last active step. Steps ascend."""
    active = pairs[pairs["kind"] == "active"]
    return active.drop_duplicates(["matrix", "i", "j"], keep="last")


def pair_square(pairs: pd.DataFrame, updates: list[str]) -> pd.DataFrame:
    """Mean γ over matrices of every two updates, (T, T) symmetric with a NaN diagonal; NaN where never defined.

    pairs: of :func:`latest_pairs`.
    """
    means = pairs.groupby(["i", "j"])["conflict"].mean().reset_index()
    square = pd.DataFrame(np.nan, index=updates, columns=updates)
    for i, j, value in means.itertuples(index=False):
        if i in square.index and j in square.index:
            square.at[i, j] = square.at[j, i] = float(value)
    return square


def by_place(matrices: pd.DataFrame, pairs: pd.DataFrame, settings: RunSettings, update: str) -> pd.DataFrame:
    """Evidence on ``update`` at each matrix: incoming_conflict, pair_conflict, pair_alpha, and why one is NaN.

    pairs: of :func:`latest_pairs`. pair_conflict: mean γ with the other updates, each pair in its own basis.
    pair_alpha: the gate (eq. 6) at the mean γ with the others in the union basis of the gate.
    """
    cells = matrices.loc[matrices["update"] == update, [*PLACE, "incoming_conflict", "reason"]].reset_index(drop=True)
    mine = pairs[(pairs["i"] == update) | (pairs["j"] == update)]
    means = mine.groupby("matrix")[["conflict", "gate_conflict"]].mean().reindex(cells["matrix"])
    cells["pair_conflict"] = means["conflict"].to_numpy(dtype=float)
    g = means["gate_conflict"].to_numpy(dtype=float)
    cells["pair_alpha"] = np.nan if _no_gate(settings) else gate(g, settings.gcwm)
    return cells


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


def _or(cells: pd.DataFrame, column: str, reason: str) -> Interval:
    mean = mean_over_matrices(cells[column], cells["layer"])
    return mean if mean.known else missing(reason)


def _no_gate(settings: RunSettings) -> str:
    if not get_method(settings.method).conflict_gate:
        return f"the method {settings.method} has no gate"
    return ""


def _at_step(scores: pd.DataFrame, step: int, tasks: list[str], split: str, metric: str, reason: str) -> Interval:
    """Mean change of ``tasks`` from the step before ``step`` (the base before the first) to it, more = better;
    ``reason``: where none of the tasks was probed."""
    R, errors = (score_matrix(scores, split, metric, column) for column in ("value", "se"))
    probed = [task for task in tasks if task in R.columns]
    if not probed or not {step - 1, step} <= set(R.index):
        return missing(f"not measured; {reason}" if not probed else "not measured at its step and before")
    (before, after), (se_before, se_after) = (
        table.loc[[step - 1, step], probed].to_numpy(dtype=float) for table in (R, errors)
    )
    return _mean_change((after - before) * (1.0 if METRICS[metric] else -1.0), np.hypot(se_before, se_after))


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
