"""Sets and orders of updates: greedy search by predicted conflict, and what was measured of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.errors import InputError
from gcwm_viz.merging.registry import get_method
from gcwm_viz.probes.metrics import rows_of_metric
from gcwm_viz.probes.scores import score_matrix
from gcwm_viz.statistics.means import error_over_tasks


@dataclass(frozen=True)
class Addition:
    """One update added to those before it. added_conflict: mean γ with them (NaN for the first); subset_conflict:
    mean γ over all pairs of the set so far, the prediction for it; both in [0, 1], higher = more conflict."""

    size: int
    update: str
    added_conflict: float
    subset_conflict: float
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """Measured mean score over all tasks of the model merged from ``updates`` in this order; se: standard error."""

    updates: tuple[str, ...]
    value: float
    se: float
    source: str


def greedy_order(square: pd.DataFrame) -> list[Addition]:
    """Start from the update with the least mean conflict with all others, then add the one that conflicts least with
    those already chosen. Ties keep the order of ``square``; an update without a defined conflict comes last.

    square: (T, T) mean γ of every two updates, symmetric, NaN where undefined and on the diagonal.
    """
    names, gamma = list(square.index), square.to_numpy(dtype=float)
    chosen: list[int] = []
    while len(chosen) < len(names):
        rest = [index for index in range(len(names)) if index not in chosen]
        to = chosen or list(range(len(names)))
        conflicts = [_mean(gamma[index, [other for other in to if other != index]]) for index in rest]
        # An undefined conflict counts as the highest.
        chosen.append(rest[int(np.argmin([math.inf if math.isnan(value) else value for value in conflicts]))])
    return additions(square, [names[index] for index in chosen])


def additions(square: pd.DataFrame, order: Sequence[str]) -> list[Addition]:
    """The predicted conflict along a given order. Raises :class:`InputError` for a name that is not in ``square``."""
    unknown = [name for name in order if name not in square.index]
    if unknown or len(set(order)) != len(order):
        raise InputError(f"order: expected each of {list(square.index)} at most once, got {list(order)}")
    gamma, indices = square.to_numpy(dtype=float), list(map(list(square.index).index, order))
    rows = []
    for size, name in enumerate(order, start=1):
        before = indices[: size - 1]
        added = _mean(gamma[indices[size - 1], before]) if before else math.nan
        reason = "" if not math.isnan(added) else "no defined conflict with those before it" if before else "the first"
        rows.append(Addition(size, name, added, _mean_pair(gamma, indices[:size]), reason))
    return rows


def order_matters(settings: RunSettings, *, trained: bool = False) -> str:
    """Why the final model depends on the order of updates, or an empty text where it does not: under ``all_history``
    with a constant η the increments telescope, and only the intermediate states depend on the order.

    trained: the run describes the states of a training pipeline.
    """
    continual = settings.continual
    if trained:
        return "its states come from training on one task after another"
    if get_method(settings.method).sequential:
        return f"the method {settings.method} merges one update at a time"
    if continual.policy != "all_history":
        return "the memory policy current_anchor folds earlier updates into one"
    if continual.memory is not None:
        return f"the memory keeps the last {continual.memory} updates"
    if continual.decay != 1.0:
        return "η changes from step to step"
    if continual.old_weight != continual.new_weight:
        return "the last update has another weight than those before it"
    return ""


def outcomes(
    tables: Mapping[str, pd.DataFrame], updates: Sequence[str], split: str = "dev", metric: str = "em"
) -> list[Outcome]:
    """Every set of updates of this run whose merge was scored: base, each step, and all but one."""
    entries = []
    scores = tables["scores"]
    value, error = (score_matrix(scores, split, metric, column) for column in ("value", "se"))
    for step in value.index:
        source = "base" if step == 0 else f"step {step}"
        entries.append(_outcome(tuple(updates[:step]), value.loc[step], error.loc[step], source))
    left_out = tables["leave_one_out"]
    left_out = rows_of_metric(left_out[left_out["split"] == split], metric)
    for name, rows in left_out.groupby("left_out", sort=False):
        others = tuple(update for update in updates if update != name)
        entries.append(_outcome(others, rows["value"], rows["se"], "leave-one-out"))
    return entries


def measured(entries: Sequence[Outcome], order: Sequence[str], *, ordered: bool) -> Outcome | None:
    """The outcome for exactly these updates, in any order unless ``ordered``; None where it was not measured."""
    for outcome in entries:
        same = outcome.updates == tuple(order) if ordered else set(outcome.updates) == set(order)
        if same and not math.isnan(outcome.value):
            return outcome
    return None


def _outcome(updates: tuple[str, ...], values: pd.Series, errors: pd.Series, source: str) -> Outcome:
    values = values.astype(float)
    return Outcome(updates, float(values.mean(skipna=False)), error_over_tasks(errors), source)


def _mean_pair(gamma: np.ndarray, indices: Sequence[int]) -> float:
    block = gamma[np.ix_(indices, indices)]
    return _mean(block[np.triu_indices(len(indices), 1)])


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
