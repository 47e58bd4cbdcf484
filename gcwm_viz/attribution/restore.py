"""Restoration: chosen matrices put back to what they were before a step, and every task scored again.

The check of attribution by intervention. Where a task's recovered share and its attribution disagree, matrices
interact: the effect of one depends on what the others are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gcwm_viz.attribution.path import ABSOLUTE, between
from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.roles import role
from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.stored import read_examples, state_of
from gcwm_viz.probes.tasks import Task
from gcwm_viz.probes.values import TaskValues, difference_error
from gcwm_viz.statistics.means import mean_error

Shares = Mapping[str, float]
"""Share of the step that is undone, in [0, 1], by matrix: 1 puts it back, 0 leaves it; absent ones are left."""


class Restoration:
    """A step of a run, or any path between two of its states, whose matrices can be put back one set after another.

    Uses ``live``, which nothing else may use meanwhile. ``tasks``: those to score.

    ``before``, ``after``: values of every example at both ends. ``roles``: of the updates' tasks on this ends.
    """

    def __init__(self, live: LiveModel, ends: Ends, tasks: Sequence[Task]) -> None:
        self.live, self.ends = live, ends
        self.matrices = [key.name for key in live.merged.keys]
        self._start, self._end = (live.updates(state_of(live.store, state)) for state in (ends.start, ends.step))
        self.tasks = list(tasks)
        self._probe = BehaviourProbe(live.tokenizer, tasks)
        self.before, self.after = (self._stored(state) for state in (ends.start, ends.step))
        updates = live.store.updates
        self.roles = {name: str(role(name, ends.step, updates, ends.start)) for name in updates}

    def updates(self, shares: Shares) -> list[Update | None]:
        """θ − θ_pre of every tensor, restored; where a share is 1 it is that of the earlier state, bit for bit."""
        self._check(shares)
        by_name = zip(self.matrices, self._start, self._end, strict=True)
        return [between(a, b, 1.0 - shares.get(name, 0.0)) for name, a, b in by_name]

    def measure(self, shares: Shares) -> list[TaskValues]:
        """Values of every example of every task with these shares undone."""
        self.live.set_updates(self.updates(shares))
        return self._probe.measure(self.live.model, self.live.device)

    def score(self, shares: Shares) -> pd.DataFrame:
        """The rows of :func:`compare` with these shares undone."""
        return compare(self.before, self.after, self.measure(shares), self.roles)

    def _stored(self, state: int) -> list[TaskValues]:
        """Values of one state as the run stored them, or else measured."""
        tasks = {(task.split, task.name): task for task in self._probe.tasks}
        stored = {(v.split, v.name): v for v in read_examples(self.live.store, state)}
        if tasks.keys() <= stored.keys():
            return [stored[key] for key in tasks]
        self.live.set(state_of(self.live.store, state))
        return self._probe.measure(self.live.model, self.live.device)

    def _check(self, shares: Shares) -> None:
        for name, share in shares.items():
            if name not in self.matrices:
                raise InputError(f"no matrix {name[:100]!r} in run {self.live.store.path}")
            if not 0 <= share <= 1:
                raise InputError(f"{name}: expected a share from 0 to 1, found {share}")


def compare(
    before: Sequence[TaskValues], after: Sequence[TaskValues], restored: Sequence[TaskValues], roles: Mapping[str, str]
) -> pd.DataFrame:
    """Scores of the three states by task, split and metric.

    Columns: task, split, metric, role (of the task, see ``roles``), before, after, restored, each
    with its standard error (before_se, …), n; change = restored − after and change_se, paired; recovered = change over
    before − after: 1 = all that the path changed is undone, 0 = nothing; NaN with a ``reason`` where the path changed
    less than one example of em or acc, or less than 0.001 in another metric.
    """
    rows = []
    for task, end, again in zip(before, after, restored, strict=True):
        for metric, values in task.metrics.items():
            three = {"before": values, "after": end.metrics[metric], "restored": again.metrics[metric]}
            row: dict[str, Any] = {"task": task.name, "split": task.split, "metric": metric}
            row["role"] = roles.get(task.name, "other")
            for name, sample in three.items():
                row |= {name: float(sample.mean()), f"{name}_se": mean_error(sample)}
            differences = three["restored"] - three["after"]
            row |= {"n": len(values), "change": float(differences.mean())}
            row["change_se"] = difference_error(metric, differences)
            rows.append(row | _recovered(row))
    return pd.DataFrame(rows)


def _recovered(row: Mapping[str, Any]) -> dict[str, Any]:
    lost = row["before"] - row["after"]
    least = 0.5 / row["n"] if row["metric"] in ("em", "acc") else ABSOLUTE
    if not abs(lost) > least:
        return {"recovered": math.nan, "reason": "this path hardly changed it, so there is nothing to recover"}
    return {"recovered": row["change"] / lost, "reason": ""}


def read_cells(file: Path, live: LiveModel) -> dict[str, float]:
    """Shares by matrix from a JSON file ``{"cells": […]}`` of objects, each with any of ``matrix``, ``layer`` and
    ``family``, and ``share`` (1 by default); an object stands for every matrix that agrees with what it names.

    Raises :class:`InputError` for other content, and for an object that no matrix agrees with.
    """
    entries = read_json_object(file, "the file of cells").get("cells")
    if not isinstance(entries, list) or not entries:
        raise InputError(
            f'{file}: expected {{"cells": [{{"layer": 0, "family": "k_proj"}}, …]}}, found no list of cells'
        )
    shares: dict[str, float] = {}
    for place, entry in enumerate(entries, start=1):
        where = f"{file}: cell {place}"
        if not isinstance(entry, dict) or not entry or not entry.keys() <= {"matrix", "layer", "family", "share"}:
            raise InputError(f"{where}: expected matrix, layer, family or share, found {json.dumps(entry)[:80]}")
        share = entry.get("share", 1.0)
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(f"{where}: expected a share from 0 to 1, found {str(share)[:40]!r}")
        named = {name: value for name, value in entry.items() if name != "share"}
        fields = [{"matrix": key.name, "layer": key.layer, "family": key.family} for key in live.merged.keys]
        agreeing = [each["matrix"] for each in fields if all(_same(each[n], value) for n, value in named.items())]
        if not agreeing:
            raise InputError(f"{where}: no matrix of the run is {json.dumps(named)[:120]}")
        shares |= dict.fromkeys(map(str, agreeing), float(share))
    return shares


def _same(own: object, wanted: object) -> bool:
    return type(own) is type(wanted) and own == wanted
