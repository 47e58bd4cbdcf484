"""What a run's tables say about each of its updates: conflict known before merging, and what the probes measured.

Scores are turned so that more is better: for NLL and perplexity every difference has its sign changed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.decide.interval import Interval, from_error, mean_over_matrices, missing
from gcwm_viz.geometry.gate import gate
from gcwm_viz.merging.registry import get_method
from gcwm_viz.probes.metrics import METRICS, rows_of_metric

NOT_MEASURED = "not measured; run leave-one-out"
PLACE = ["matrix", "layer", "family"]


@dataclass(frozen=True)
class Candidate:
    """Evidence on one update. Conflicts and α in [0, 1]; scores in the metric's unit, more = better.

    step: its arrival, from 1. incoming: mean γ between the state it met and the update. pairwise: mean γ with every
    other update. alpha: mean gate value that its conflict with the others asks for. gain, gain_to_expert: score of the
    final model on its own task minus the base's, minus its expert's. others: mean change of the other tasks when it is
    left out, above zero = they are better off without it. own: the same for its own task. overall: for all tasks.
    """

    update: str
    step: int
    incoming: Interval
    pairwise: Interval
    alpha: Interval
    gain: Interval
    gain_to_expert: Interval
    others: Interval
    own: Interval
    overall: Interval

    def flat(self) -> dict[str, float | str | int]:
        """One table row: every interval as NAME, NAME_low, NAME_high, NAME_reason."""
        row: dict[str, float | str | int] = {"update": self.update, "step": self.step}
        for name, entry in asdict(self).items():
            if isinstance(entry, dict):
                row |= {name: entry["value"]} | {f"{name}_{part}": entry[part] for part in ("low", "high", "reason")}
        return row


def candidates(
    tables: Mapping[str, pd.DataFrame], settings: RunSettings, split: str = "dev", metric: str = "em"
) -> list[Candidate]:
    """One candidate an update, in order of arrival. Uses the tables matrices, pairs, scores and leave_one_out."""
    matrices = tables["matrices"]
    pairs = latest_pairs(tables["pairs"])
    arrivals = matrices[["step", "update"]].drop_duplicates().sort_values("step")
    found = []
    for step, update in zip(arrivals["step"], arrivals["update"], strict=True):
        places = by_place(matrices, pairs, settings, update)
        others = left_out_effects(tables["leave_one_out"], update, split, metric)
        found.append(
            Candidate(
                update=update,
                step=int(step),
                incoming=missing("no state before the first step")
                if step == 1
                else mean_over_matrices(places["incoming_conflict"], places["layer"]),
                pairwise=_or(places, "pair_conflict", "never active together with another update"),
                alpha=_or(places, "pair_alpha", _no_gate(settings) or "no conflict with another update to gate on"),
                gain=_change(tables["scores"], update, split, metric, "base"),
                gain_to_expert=_change(tables["scores"], update, split, metric, "expert"),
                others=_mean_effect(others[~others["own"]]),
                own=_mean_effect(others[others["own"]]),
                overall=_mean_effect(others),
            )
        )
    return found


def latest_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Rows of active pairs, each pair of updates at each matrix once: where it was last active. Steps ascend."""
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
    """Change of every task when ``update`` is left out: task, own, change (more = better without it), se, n."""
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


def _or(places: pd.DataFrame, column: str, reason: str) -> Interval:
    found = mean_over_matrices(places[column], places["layer"])
    return found if found.known else missing(reason)


def _no_gate(settings: RunSettings) -> str:
    if get_method(settings.method).name != "gcwm":
        return f"the method {settings.method} has no gate"
    return ""


def _change(scores: pd.DataFrame, task: str, split: str, metric: str, against: str) -> Interval:
    """Final model minus base or expert on ``task``; the errors of both models count as independent."""
    rows = rows_of_metric(scores[(scores["task"] == task) & (scores["split"] == split)], metric)
    steps = scores[scores["model"] == "step"]["step"]
    if not len(rows) or not len(steps):
        return missing("not measured; this run has no probes of a task of this name")
    last = rows[(rows["model"] == "step") & (rows["step"] == steps.max())]
    other = rows[(rows["model"] == against) & ((against == "base") | (rows["update"] == task))]
    if len(last) != 1 or len(other) != 1:
        return missing("not measured")
    sign = 1.0 if METRICS[metric] else -1.0
    change = sign * (float(last["value"].iloc[0]) - float(other["value"].iloc[0]))
    return from_error(change, float(np.hypot(float(last["se"].iloc[0]), float(other["se"].iloc[0]))))


def _mean_effect(rows: pd.DataFrame) -> Interval:
    if not len(rows):
        return missing(NOT_MEASURED)
    return from_error(
        float(rows["change"].mean(skipna=False)), float(np.sqrt((rows["se"] ** 2).sum(skipna=False))) / len(rows)
    )
