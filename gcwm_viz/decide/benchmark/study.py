"""The decision benchmark: pools of updates, predictors of what each does, and the scores of their plans.

    OUT/decide.json               model, recipe, kinds, methods and their settings, versions
    OUT/trained/                  base and updates, each trained once
    OUT/cells/….json              one seed: predictors, or the plans of one method
    OUT/tables/NAME.parquet       pools, updates, pairs, effects, solo, plans

Resumable. Predictors use the development split; plans are scored on both splits.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.engine import write_table
from gcwm_viz.decide.benchmark.bench import PoolBench, Rows
from gcwm_viz.decide.benchmark.cases import LAB, SMOLLM2
from gcwm_viz.decide.benchmark.lab import FITTED, REPORTED, LabPools
from gcwm_viz.decide.benchmark.pools import KINDS, Pool, key_of, leave_one_out, lessened, subsets, with_less
from gcwm_viz.decide.benchmark.smollm2 import SmolLM2Pools
from gcwm_viz.engines.local import unordered
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.bundles import versions
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.experiments.smollm2.base import base_folder
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.studies.lab.study import sendable

FORMAT = "gcwm_viz.decide"
METHODS = ("wudi", "task-arithmetic", "gcwm")
PREDICTORS, SOLO = "predictors", "solo"
TABLES = ("pools", "updates", "pairs", "effects", "solo", "plans")


@dataclass(frozen=True)
class Cell:
    """``part``: predictors, solo, or a method whose plans are scored; of SmolLM2 a method and a pool (``wudi+good-1``),
    so that little is lost when it is interrupted."""

    seed: int
    part: str

    @property
    def file(self) -> str:
        return f"{self.seed:03d}-{self.part}.json"


def decide(
    out: Path,
    *,
    model: str = LAB,
    seeds: Sequence[int] = (*FITTED, *REPORTED),
    methods: Sequence[str] = METHODS,
    recipe: Recipe | None = None,
    workers: int = 1,
    report: Callable[[str], None] | None = None,
) -> dict[str, pd.DataFrame]:
    """Compute missing cells and return the tables. ``model``: the lab, whose updates are trained for every seed, or
    SmolLM2 with the shipped adapters, where ``seeds`` and ``recipe`` have no meaning.

    Raises :class:`InputError` for an unknown method and for an ``out``
    of another recipe, :class:`~gcwm_viz.continual.folder.WorkCancelledError` when OUT/cancel appears."""
    recipe = sendable(recipe)
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {unknown[0]!r}")
    seeds = seeds if model == LAB else (0,)
    open_bench = partial(_bench, model, recipe, out / "trained")
    about = {
        "format": FORMAT,
        "model": model,
        "recipe": recipe.to_json() if model == LAB else {},
        "kinds": list(KINDS),
        "settings": {name: settings_of(name).to_dict() for name in METHODS},
        "fitted": list(FITTED),
        "reported": list(REPORTED),
        "versions": {"python": platform.python_version()} | versions(("torch", "transformers")),
    }

    def tell(stage: str, done: int, total: int, label: str) -> None:
        if report is not None:
            report(f"{label} ({done} of {total})")

    folder = ResultFolder(out, "decide.json", "a benchmark of", tell, before=("trained",))
    with folder.work(about, same=("format", "model", "recipe", "kinds", "settings")):
        (out / "cells").mkdir(exist_ok=True)
        # Predictors come first: they need every update of a seed, which trains what is missing.
        pools = [""] if model == LAB else [f"+{pool.name}" for pool in open_bench(0).pools]
        stages = [[PREDICTORS], [SOLO], *([f"{method}{pool}" for pool in pools] for method in methods)]
        for parts in stages:
            cells = [Cell(seed, part) for seed in seeds for part in parts]
            todo = [cell for cell in cells if not (out / "cells" / cell.file).is_file()]
            for done, (cell, _) in enumerate(unordered(partial(_work, out, open_bench), todo, workers), start=1):
                folder.tell("cells", done, len(todo), f"seed {cell.seed}, {cell.part}", event="cell")
        tables = write_tables(out, open_bench)
        folder.log("complete")
    return tables


def settings_of(method: str) -> RunSettings:
    """A method's settings in the benchmark: the default preset's."""
    return RunSettings.preset_with("scale-free", {}, method)


def _bench(
    model: str, recipe: Recipe, folder: Path, seed: int, report: Callable[[str], None] | None = None
) -> PoolBench:
    if model == LAB:
        return LabPools(seed, recipe, folder, report)
    return SmolLM2Pools(base_folder(), folder, report, seed)


def plans_of(pool: Pool, method: str, model: str = LAB) -> list[tuple[float, ...]]:
    """The plans that are scored: all subsets, everything with less of one update, and with less of everything; of the
    plain sum, which is too strong as it is, everything but one with less too. Of GCWM, whose geometry takes six times
    as long as the rest, everything and everything but one, in every second pool. Of SmolLM2, where a score takes half
    a minute, these whole and with less."""
    size = len(pool.variants)
    if model == SMOLLM2:
        return [*leave_one_out(size), *lessened(leave_one_out(size))]
    if method == "gcwm":
        return [] if pool.name.endswith("-2") else leave_one_out(size)
    weak = leave_one_out(size) if method == "task-arithmetic" else [(1.0,) * size]
    return [*subsets(size), *with_less(size), *lessened(weak)]


def _work(out: Path, open_bench: Callable[..., PoolBench], cell: Cell) -> None:
    bench = open_bench(cell.seed, partial(_note, out / "training.log"))
    content: Any
    if cell.part == PREDICTORS:
        content = bench.predictors()
    elif cell.part == SOLO:
        content = {"solo": bench.solo()}
    else:
        content = {"plans": _plans(bench, cell, out / "cells")}
    write_bytes(out / "cells" / cell.file, json.dumps(content).encode())


def _note(file: Path, state: str) -> None:
    with file.open("a", encoding="utf-8") as log:
        log.write(f"{state}\n")


def _plans(bench: PoolBench, cell: Cell, cells: Path) -> Rows:
    """Scores of the plans of every pool, or of one; a plan that pools share is scored once."""
    method, _, name = cell.part.partition("+")
    settings, model = settings_of(method), SMOLLM2 if isinstance(bench, SmolLM2Pools) else LAB
    rows: Rows = []
    done = {row["plan"] for file in cells.glob(f"{cell.seed:03d}-{method}+*.json") for row in _stored(file)}
    for pool in bench.pools:
        for plan in plans_of(pool, method, model) if name in ("", pool.name) else []:
            key = key_of(pool.variants, plan)
            if key and key not in done:
                done.add(key)
                rows += [{"plan": key} | row for row in bench.score(pool.variants, plan, settings)]
    return rows


def _stored(file: Path) -> Rows:
    rows: Rows = json.loads(file.read_bytes())["plans"]
    return rows


def write_tables(out: Path, open_bench: Callable[..., PoolBench]) -> dict[str, pd.DataFrame]:
    """Gather the finished cells."""
    rows: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for file in sorted((out / "cells").glob("*.json")):
        seed, part = file.stem.split("-", 1)
        for name, content in json.loads(file.read_bytes()).items():
            frame = pd.DataFrame(content).assign(seed=int(seed))
            rows[name].append(frame.assign(method=part.partition("+")[0]) if name == "plans" else frame)
    for number in sorted({int(file.name[:3]) for file in (out / "cells").glob("*.json")}):
        for pool in open_bench(number).pools:
            about = {"seed": number, "pool": pool.name, "regime": pool.regime}
            members = [
                about | {"place": k, "update": v.name, "task": v.task, "kind": v.kind}
                for k, v in enumerate(pool.variants)
            ]
            rows["pools"].append(pd.DataFrame(members))
    tables = {name: pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for name, parts in rows.items()}
    if len(tables["plans"]):  # two pools scored at the same time may both have scored what they share
        tables["plans"] = tables["plans"].drop_duplicates(
            ["method", "seed", "plan", "task", "split"], ignore_index=True
        )
    for name, table in tables.items():
        for column in table.select_dtypes("float64"):
            table[column] = table[column].astype("float32")
        write_table(out, name, table)
    return tables
