"""A decision benchmark that is made up: three seeds or more of pools of two and three updates, and a known truth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from gcwm_viz.signals.predictors import PREDICTORS

NAMES = ("past", "index", "close", "eval~noise")
CLAIMS = {"past": "past", "index": "index", "close": "close", "eval~noise": "eval"}
TASKS = ("past", "index", "close", "eval")
POOLS = {"good-1": ("past", "index", "close"), "noise-1": ("eval~noise", "past", "index"),
         "mixed-1": ("close", "eval~noise", "index")}  # fmt: skip
LESS = 1 / 3


def make_tables(
    seeds: Sequence[int] = (0, 1, 2), methods: Sequence[str] = ("wudi",), noise: float = 0.0
) -> dict[str, pd.DataFrame]:
    """Every good update gains 0.3 on its task, and a third of it 0.1; the bad one loses 0.2 on every task, a third of
    it 0.02. Scores of a plan are sums of these. Other numbers are drawn."""
    rows: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("pools", "updates", "pairs", "effects", "solo", "plans")
    }
    for seed in seeds:
        rng = np.random.default_rng(seed)
        base = dict(zip(TASKS, rng.uniform(0.25, 0.35, len(TASKS)), strict=True))
        for pool, members in POOLS.items():
            for place, name in enumerate(members):
                about = {"seed": seed, "pool": pool, "regime": pool.removesuffix("-1"), "place": place}
                rows["pools"].append(about | {"update": name, "task": CLAIMS[name], "kind": kind_of(name)})
        for name in NAMES:
            about = {"seed": seed, "update": name}
            own = {c: rng.uniform(0.1, 1) for c, p in PREDICTORS.items() if p.between == "update" and c != "base_loss"}
            rows["updates"].append(about | {"task": CLAIMS[name], "kind": kind_of(name)} | own)
            for task in TASKS:
                own = {c: rng.normal() for c, p in PREDICTORS.items() if p.between == "task" and c != "solo"}
                rows["effects"].append(about | {"task": task, "kl_task": rng.uniform(0.1, 1)} | own)
            for other in NAMES:
                if other != name:
                    own = {c: rng.uniform(0.1, 1) for c, p in PREDICTORS.items() if p.between == "pair"}
                    rows["pairs"].append({"seed": seed, "i": name, "j": other} | own)
        for name, strength in [("", 0.0), *product(NAMES, (LESS, 1.0))]:
            for task, split in product(TASKS, ("dev", "test")):
                score = base[task] + (part(name, task, strength) if name else 0.0)
                about = {"seed": seed, "update": name, "strength": strength, "task": task, "split": split}
                rows["solo"].append(about | {"em": score, "nll": 2 - score, "n": 100})
        for method, plan in product(methods, _plans()):
            for task, split in product(TASKS, ("dev", "test")):
                score = base[task] + sum(part(name, task, s) for name, s in plan.items()) + rng.normal(0, noise)
                key = ",".join(sorted(f"{name}:{strength:.3g}" for name, strength in plan.items()))
                about = {"seed": seed, "method": method, "plan": key, "task": task, "split": split}
                rows["plans"].append(about | {"em": score, "nll": 2 - score, "n": 100})
    return {name: pd.DataFrame(own) for name, own in rows.items()}


def kind_of(name: str) -> str:
    return name.partition("~")[2] or "good"


def part(name: str, task: str, strength: float) -> float:
    """What an update changes of a task."""
    if kind_of(name) == "good":
        return (0.3 if strength == 1 else 0.1) if CLAIMS[name] == task else 0.0
    return -0.2 if strength == 1 else -0.02


def _plans() -> list[dict[str, float]]:
    """Every subset of every pool, and everything with less of one."""
    found: dict[tuple[tuple[str, float], ...], dict[str, float]] = {}
    for members in POOLS.values():
        for bits in product((0.0, 1.0), repeat=3):
            _add(found, {name: s for name, s in zip(members, bits, strict=True) if s})
        for less in members:
            _add(found, {name: LESS if name == less else 1.0 for name in members})
    return list(found.values())


def _add(found: dict[tuple[tuple[str, float], ...], dict[str, float]], plan: dict[str, float]) -> None:
    if plan:
        found[tuple(sorted(plan.items()))] = plan
