"""The decision benchmark on the tiny lab: complete tables, going on where it stopped, and what it refuses."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from gcwm_viz.continual.folder import WorkCancelledError, WorkFolder
from gcwm_viz.decide.benchmark import study
from gcwm_viz.decide.benchmark.cases import pool_cases
from gcwm_viz.decide.benchmark.lab import FITTED, REPORTED, LabPools
from gcwm_viz.decide.benchmark.pools import KINDS, LESS, NOISE, RESCALED, SIZE, Variant, leave_one_out, pools
from gcwm_viz.decide.benchmark.study import METHODS, TABLES, decide, plans_of, settings_of
from gcwm_viz.decide.benchmark.validation import units
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.signals.predictors import PREDICTORS
from tests.decide.benchmark import tiny_pools
from tests.decide.benchmark.tiny_pools import RECIPE

SEEDS = (0, 5)
SOME = ("task-arithmetic", "gcwm")


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_pools.tiny_pools():
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny: None) -> tuple[Path, dict[str, pd.DataFrame]]:
    out = tmp_path_factory.mktemp("decide") / "out"
    return out, decide(out, seeds=SEEDS, methods=SOME, recipe=RECIPE)


def test_tables_are_complete(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    out, tables = made
    assert set(tables) == set(TABLES)
    pools = tables["pools"]
    regimes = {"good", *tiny_pools.KINDS, "mixed"}
    assert set(pools["regime"]) == regimes
    assert (pools.groupby(["seed", "pool"]).size() == SIZE).all()
    for seed in SEEDS:
        own = {name: table[table["seed"] == seed] for name, table in tables.items()}
        updates = set(own["updates"]["update"])
        assert set(own["pools"]["update"]) <= updates
        assert set(RECIPE.order) <= updates  # the good one of every task
        n = len(updates)
        assert len(own["pairs"]) == n * (n - 1)
        assert len(own["effects"]) == n * len(RECIPE.order)
        assert len(own["solo"]) == (1 + 2 * n) * len(RECIPE.order) * 2
        assert not own["plans"].duplicated(["method", "plan", "task", "split"]).any()
        for method in SOME:
            scored = own["plans"][own["plans"]["method"] == method]
            assert (scored.groupby("plan").size() == len(RECIPE.order) * 2).all()
    for name, table in tables.items():
        pd.testing.assert_frame_equal(pd.read_parquet(out / "tables" / f"{name}.parquet"), table)


def test_the_tables_are_cases_with_every_truth(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    tables = made[1]
    for method, count in (("task-arithmetic", 2**SIZE + SIZE + SIZE + 1), ("gcwm", SIZE + 2)):
        cases = pool_cases(tables, method)
        assert len(cases) == 5 * len(SEEDS)
        for case in cases:
            assert len(case.plans_pt) >= count  # others that are its own by chance come from pools that share updates
            assert len(np.unique(case.plans_pt, axis=0)) == len(case.plans_pt)
            assert np.isfinite(case.dev).all()
            assert np.isfinite(case.test).all()
            assert np.isfinite([case.marginal(j) for j in range(SIZE)]).all()
    table = units(cases, tables)
    assert set(PREDICTORS) <= set(table)
    assert len(table) == 5 * len(SEEDS) * SIZE


def test_scores_are_those_of_the_states(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    """A plan of one update is that update; of task arithmetic, a plan is the sum of its updates."""
    out, tables = made
    bench = LabPools(0, RECIPE, out / "trained")
    first, second = (Variant(task) for task in RECIPE.order[:2])
    settings = settings_of("task-arithmetic")
    both = bench.merge([first, second], (1.0, LESS), settings)
    one, other = bench.update(first), bench.update(second)
    for merged, a, b in zip(both, one, other, strict=True):
        assert merged is not None
        torch.testing.assert_close(dense(merged), dense(a) + LESS * dense(b), rtol=1e-5, atol=1e-7)
    assert bench.merge([first], (0.0,), settings) == [None] * len(bench.keys)
    scored = tables["solo"].query("seed == 0 and update == @first.name and strength == 1 and split == 'test'")
    rows = bench.score([first], (1.0,), settings)
    found = {row["task"]: row["nll"] for row in rows if row["split"] == "test"}
    assert found == pytest.approx(scored.set_index("task")["nll"].to_dict(), rel=1e-5)


def test_a_second_call_computes_nothing(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    out, tables = made
    cells = sorted((out / "cells").glob("*.json"))
    times = {file: file.stat().st_mtime_ns for file in (*cells, *(out / "trained").glob("*"))}
    told: list[str] = []
    again = decide(out, seeds=SEEDS, methods=SOME, recipe=RECIPE, report=told.append)
    assert told == []
    assert {file: file.stat().st_mtime_ns for file in times} == times
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table)


def test_it_goes_on_where_it_stopped(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    out, _ = made
    cells = [out / "cells" / name for name in ("005-gcwm.json", "000-predictors.json")]
    before = {file: file.read_bytes() for file in cells}
    for file in cells:
        file.unlink()
    again: dict[str, Any] = {"seeds": SEEDS, "methods": SOME, "recipe": RECIPE}
    with pytest.raises(WorkCancelledError):
        decide(out, **again, report=lambda text: WorkFolder(out).request_cancel())
    told: list[str] = []
    decide(out, **again, report=told.append)
    assert told == ["seed 5, gcwm (1 of 1)"]
    for file, content in before.items():
        assert file.read_bytes() == content


def test_what_is_refused(made: tuple[Path, dict[str, pd.DataFrame]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"method must be one of wudi.*, got 'ties'"):
        decide(tmp_path / "a", methods=["ties"], recipe=RECIPE)
    with pytest.raises(InputError, match="another recipe"):
        decide(made[0], seeds=SEEDS, methods=SOME)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").touch()
    with pytest.raises(InputError, match="not empty"):
        decide(tmp_path / "b", seeds=SEEDS, methods=SOME, recipe=RECIPE)


def test_what_was_done_is_recorded(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    about = json.loads((made[0] / "decide.json").read_bytes())
    assert about["recipe"] == json.loads(json.dumps(RECIPE.to_json()))
    assert set(about["settings"]) == set(METHODS)
    assert not set(about["fitted"]) & set(about["reported"])


def test_plans_of_methods_and_models() -> None:
    first, second = (pool for pool in pools(RECIPE.order, 0) if pool.regime == "noise")
    every = plans_of(first, "wudi")
    assert len(every) == len(set(every)) == 2**SIZE + SIZE + 1
    assert plans_of(first, "gcwm") == leave_one_out(SIZE)
    assert plans_of(second, "gcwm") == []
    of_smollm2 = plans_of(first, "gcwm", "smollm2")
    assert len(set(of_smollm2)) == 2 * (SIZE + 1)
    assert {plan for plan in of_smollm2 if 1.0 in plan} == set(leave_one_out(SIZE))


class OtherModel(LabPools):
    """In place of SmolLM2: pools of the tiny lab, scored on test alone."""

    attributed = False
    plan_splits = ("test",)
    scored = 0

    def __init__(self, base: Path, folder: Path, report: Any = None, draw: int = 0) -> None:
        super().__init__(draw, RECIPE, folder, report)
        self.pools = [*self.pools, replace(self.pools[0], name="good-2")]

    def score(self, *arguments: Any) -> Any:
        type(self).scored += 1
        return super().score(*arguments)


def test_another_model_is_scored_pool_by_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "SmolLM2Pools", OtherModel)
    monkeypatch.setattr(study, "base_folder", lambda: tmp_path)
    out, told = tmp_path / "out", list[str]()

    def stop(text: str) -> None:
        told.append(text)
        if len(told) == 4:
            WorkFolder(out).request_cancel()

    with pytest.raises(WorkCancelledError):
        decide(out, model="smollm2", methods=["wudi"], report=stop)
    assert [text.split(" (")[0] for text in told[:3]] == ["seed 0, predictors", "seed 0, solo", "seed 0, wudi+good-1"]
    tables = decide(out, model="smollm2", methods=["wudi"])
    plans = tables["plans"]
    assert set(plans["method"]) == {"wudi"}
    assert set(plans["split"]) == {"test"}
    assert tables["effects"]["attributed"].isna().all()
    # Each once, though two pools are the same and the work was interrupted.
    assert OtherModel.scored == plans["plan"].nunique() <= 5 * 2 * (SIZE + 1)
    assert not plans.duplicated(["plan", "task"]).any()
    cases = pool_cases(tables, "wudi")
    assert len(cases) == 6
    for case in cases:
        assert np.isnan(case.dev[1:]).all()
        for scale in (1.0, LESS):
            assert all(np.isfinite(replace(case, scale=scale).marginal(j)) for j in range(SIZE))


def of_past(bench: LabPools, kind: str, data: str = "") -> list[Tensor]:
    return [dense(delta) for delta in bench.update(Variant("past", kind, data))]


def size(update: list[Tensor]) -> float:
    return float(torch.cat([delta.flatten() for delta in update]).norm())


def cosine(first: list[Tensor], second: list[Tensor]) -> float:
    inner = sum(float((a * b).sum()) for a, b in zip(first, second, strict=True))
    return inner / size(first) / size(second)


def test_bad_updates_are_what_they_say(tmp_path: Path) -> None:
    bench = LabPools(0, RECIPE, tmp_path)
    good, other = of_past(bench, "good"), [dense(delta) for delta in bench.update(Variant("eval"))]
    for rescaled, delta in zip(of_past(bench, "rescaled"), good, strict=True):
        torch.testing.assert_close(rescaled, RESCALED * delta)
    for noisy, delta in zip(of_past(bench, "noise"), good, strict=True):
        assert float((noisy - delta).norm()) == pytest.approx(NOISE * float(delta.norm()), rel=1e-4)
    assert size(of_past(bench, "under-trained")) < 0.6 * size(good) < 0.6 * size(of_past(bench, "over-trained"))
    # The same data in another order; another task's data; wrong answers; the same data from another base.
    assert cosine(of_past(bench, "duplicate"), good) > 0.5
    assert (
        cosine(of_past(bench, "wrong-name", "eval"), other) > 0.5 > cosine(of_past(bench, "wrong-name", "eval"), good)
    )
    assert cosine(of_past(bench, "shuffled"), good) < cosine(of_past(bench, "duplicate"), good)
    assert abs(cosine(of_past(bench, "other-base"), good)) < 0.2


def test_an_update_is_the_same_whether_trained_or_read_from_its_file(tmp_path: Path) -> None:
    """The parts of the benchmark are computed in different processes."""
    trained = LabPools(0, RECIPE, tmp_path)
    updates = {kind: of_past(trained, kind, "eval" if kind == "wrong-name" else "") for kind in KINDS}
    read = LabPools(0, RECIPE, tmp_path)
    assert [key.name for key in read.keys] == [key.name for key in trained.keys]
    for kind, update in updates.items():
        again = of_past(read, kind, "eval" if kind == "wrong-name" else "")
        assert all(torch.equal(a, b) for a, b in zip(again, update, strict=True)), kind


def test_another_base_is_one_of_the_same_side() -> None:
    """A seed that reports lends its base to none that fits."""
    for group in (FITTED, REPORTED):
        for seed in group:
            other = LabPools(seed, RECIPE, Path("unused"))._other.seed
            assert other in group
            assert other != seed
