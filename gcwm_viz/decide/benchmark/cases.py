"""The benchmark's tables as cases: a pool, what is known of it before merging, and what its plans score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.decide.benchmark.pools import Plan
from gcwm_viz.decide.forecast import Case
from gcwm_viz.decide.knowledge import Array, Knowledge

LAB, SMOLLM2 = "lab", "smollm2"
"""Models of the benchmark."""
HARM = 0.01
"""An update does harm where the mean score over tasks is lower with it by more than this."""
_SPLITS, _SCORE = ("dev", "test"), "em"


@dataclass(frozen=True)
class PoolCase:
    """One pool under one method. ``dev``, ``test``: change of every task's score from the base under every plan,
    (p, k). ``known``: of the development split alone. ``scale``: what counts as a whole update. ``model``: whose
    updates they are."""

    seed: int
    pool: str
    regime: str
    known: Knowledge
    kinds: tuple[str, ...]
    plans_pt: Array
    dev: Array
    test: Array
    scale: float = 1.0
    model: str = LAB

    @property
    def updates(self) -> int:
        return len(self.kinds)

    def case(self) -> Case:
        """For fitting, with the scores of both splits, by their number of examples; of test where that alone was
        scored."""
        change = np.where(np.isnan(self.dev), self.test, (self.dev + 2 * self.test) / 3)
        return Case(self.known, self.plans_pt, change, self.seed, self.model)

    def index(self, plan: Sequence[float]) -> int | None:
        same = np.flatnonzero(np.abs(self.plans_pt - np.asarray(plan)).max(1) < 1e-3)
        return int(same[0]) if len(same) else None

    def value(self, plan: Sequence[float], split: str = "test") -> float:
        """Change of the mean score over tasks; NaN where this plan was not scored."""
        at = self.index(plan)
        return float("nan") if at is None else float(getattr(self, split)[at].mean())

    def everything(self) -> Plan:
        return (self.scale,) * self.updates

    def with_strength(self, update: int, strength: float) -> Plan:
        """Everything whole but one update, of which this much of the whole is taken."""
        return tuple(self.scale * (strength if k == update else 1.0) for k in range(self.updates))

    def marginal(self, update: int, split: str = "test") -> float:
        """What the mean score gains by this update among all others; below zero = the others are better without it."""
        return self.value(self.everything(), split) - self.value(self.with_strength(update, 0.0), split)


def pool_cases(
    tables: Mapping[str, pd.DataFrame], method: str, seeds: Sequence[int] | None = None, model: str = LAB
) -> list[PoolCase]:
    """Every pool of these seeds whose plans were scored under ``method``, by exact match. A pool shares plans with
    others; one whose updates were not scored together is no case."""
    plans = tables["plans"]
    plans = plans[plans["method"] == method]
    found = []
    for seed in sorted(map(int, plans["seed"].unique())):
        if seeds is not None and seed not in seeds:
            continue
        scored = plans[plans["seed"] == seed]
        own = {name: table[table["seed"] == seed] for name, table in tables.items() if name != "plans"}
        solo, tasks = own["solo"], list(dict.fromkeys(own["solo"]["task"]))
        base = {split: _row(solo[(solo["update"] == "") & (solo["split"] == split)], tasks) for split in _SPLITS}
        wide = {
            split: scored[scored["split"] == split].pivot(index="plan", columns="task", values=_SCORE)
            for split in _SPLITS
        }
        keys = {key: _strengths(key) for key in wide["test"].index}
        for pool, members in own["pools"].groupby("pool", sort=False):
            members = members.sort_values("place")
            names = list(members["update"])
            chosen = [key for key, strengths in keys.items() if strengths.keys() <= set(names)]
            if not any(keys[key] == dict.fromkeys(names, 1.0) for key in chosen):
                continue
            strengths = [[keys[key].get(name, 0.0) for name in names] for key in chosen]
            dev, test = (wide[s].reindex(index=chosen, columns=tasks).to_numpy(float) - base[s] for s in _SPLITS)
            nothing = np.zeros((1, len(tasks)))
            found.append(
                PoolCase(
                    seed=seed,
                    pool=str(pool),
                    regime=str(members["regime"].iloc[0]),
                    known=Knowledge.of(names, list(members["task"]), tasks, own, "dev", _SCORE),
                    kinds=tuple(members["kind"]),
                    plans_pt=np.array([[0.0] * len(names), *strengths]),
                    dev=np.concatenate([nothing, dev]),
                    test=np.concatenate([nothing, test]),
                    model=model,
                )
            )
    return found


def _row(frame: pd.DataFrame, tasks: Sequence[str]) -> Array:
    values: Array = frame.set_index("task")[_SCORE].reindex(list(tasks)).to_numpy(float)
    return values


def _strengths(key: str) -> dict[str, float]:
    parts = [part.rsplit(":", 1) for part in key.split(",")]
    return {name: 1 / 3 if abs(float(value) - 1 / 3) < 1e-3 else float(value) for name, value in parts}
