"""A generated run with a forecast whose scores add up, so that the verdict on every update is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pandas as pd

from gcwm_viz.decide.features import NEEDS
from gcwm_viz.decide.forecast import Forecast
from tests.factories_decide import make_forecast
from tests.factories_runs import TASKS, write_run

BASE = 0.25
SUM = "sum of all, within 0 and 1"
VERDICTS = {
    "past": "✓ integrate",
    "capital": "✓ integrate",
    "index": "◐ integrate ⅓ of it",
    "symbol": "✕ hold",
    "close": "✓ integrate",
    "eval": "= redundant with close",
}
_WHOLE = {
    "past": {"past": 0.6},
    "capital": {"capital": 0.6},
    "index": {"index": 0.6} | dict.fromkeys(("past", "capital", "symbol", "close", "eval"), -0.15),
    "symbol": {"symbol": 0.3} | dict.fromkeys(("past", "capital", "index", "close", "eval"), -0.2),
    "close": {"close": 0.74},
    "eval": {"close": 0.74, "past": -0.05},
}
"""Change of every task's score from the base by each update alone; of the others it is 0."""
_THIRD = {
    "past": {"past": 0.2},
    "capital": {"capital": 0.2},
    "index": {"index": 0.4},
    "symbol": {"symbol": 0.05} | dict.fromkeys(("past", "capital", "index", "close", "eval"), -0.05),
    "close": {"close": 0.2},
    "eval": {"close": 0.2},
}


def change(strengths: Mapping[str, float]) -> float:
    """Mean change from the base that the forecast of :func:`forecasts` expects of these updates, whole or a third."""
    total = 0.0
    for task in TASKS:
        moved = sum((_WHOLE if s == 1 else _THIRD)[name].get(task, 0.0) for name, s in strengths.items() if s)
        total += min(max(BASE + moved, 0.0), 1.0) - BASE
    return total / len(TASKS)


def forecasts(method: str = "gcwm", *, bound: float = 100.0) -> list[Forecast]:
    """One for every kind of knowledge. ``bound``: of its features, beyond which a run lies outside their range."""
    given = {"updates": {"own": 0.2}, "prompts": {"own": 0.2}, "labels": {SUM: 1.0}}
    made = [make_forecast(needs, each=0.02, joint=0.01, **given[needs]) for needs in NEEDS]
    low, high = (dict.fromkeys(made[0].high | made[1].high | made[2].high, end) for end in (-bound, bound))
    return [replace(each, method=method, low=low, high=high) for each in made]


def write_decided(root: Path, name: str = "decided") -> Path:
    """A run of six updates with its predictors, and scores of base and experts alone."""
    run = write_run(root, "normal", name)
    (run / "leave_one_out" / "tables" / "leave_one_out.parquet").unlink()
    _scores(_WHOLE).to_parquet(run / "tables" / "scores.parquet")
    write_predictors(run)
    return run


def write_predictors(run: Path, names: Sequence[str] = TASKS, *, probes: bool = True) -> None:
    """The tables of ``forecast``."""
    folder = run / "forecast" / "tables"
    folder.mkdir(parents=True)
    own = {"relative_norm": 0.05, "effective_rank": 0.2}
    acting = {"interference": 1e-4, "one_sided": 0.01, "alignment": 0.01, "sar": 0.6, "conflict": 0.5}
    pairs = [{"i": i, "j": j} | acting for i, j in permutations(names, 2)]
    pd.DataFrame([{"update": name} | own for name in names]).to_parquet(folder / "updates.parquet")
    pd.DataFrame(pairs, columns=["i", "j", *acting]).to_parquet(folder / "pairs.parquet")
    if not probes:
        return
    effects = [{"update": u, "task": t, "kl_task": 0.2, "first_order_base": 0.0} for u in names for t in names]
    pd.DataFrame(effects).to_parquet(folder / "effects.parquet")
    third = _scores({name: _THIRD.get(name, {}) for name in names})
    solo = third[(third["model"] == "expert") & (third["split"] == "dev")].assign(strength=1 / 3)
    solo[["update", "strength", "task", "split", "metric", "value", "se", "n"]].to_parquet(folder / "solo.parquet")


def write_plan(run: Path, strengths: Mapping[str, float], value: float, se: float = 0.02) -> None:
    """Adds a measured plan that scores ``value`` on every task."""
    file = run / "plans" / "tables" / "plans.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    about = {"plan": str(sorted(strengths)), "strengths": json.dumps(dict(strengths))}
    score = {"split": "dev", "metric": "em", "value": value, "se": se, "n": 200}
    rows = [about | score | {"task": task} for task in TASKS]
    earlier = [pd.read_parquet(file)] if file.is_file() else []
    pd.concat([*earlier, pd.DataFrame(rows)], ignore_index=True).to_parquet(file)


def _scores(alone: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    names, rows = list(alone), list[tuple[object, ...]]()
    for place, update in enumerate(["", *names]):
        for task in names:
            value = BASE + (alone[update].get(task, 0.0) if update else 0.0)
            for split in ("dev", "test"):
                about = ("expert" if update else "base", place, update, task, split)
                rows += [(*about, "em", value, 0.02, 200), (*about, "nll", 2 - value, 0.02, 200)]
    return pd.DataFrame(rows, columns=["model", "step", "update", "task", "split", "metric", "value", "se", "n"])
