"""Tables of the benchmark as cases, by hand."""

import math

import numpy as np
import pytest

from gcwm_viz.decide.benchmark.cases import PoolCase, pool_cases
from tests.decide.benchmark.made import LESS, POOLS, TASKS, make_tables

TABLES = make_tables(seeds=(4, 0), methods=("wudi", "task-arithmetic"))


@pytest.fixture(scope="module")
def cases() -> list[PoolCase]:
    return pool_cases(TABLES, "wudi")


def test_one_case_a_pool_and_seed(cases: list[PoolCase]) -> None:
    assert [(case.seed, case.pool, case.regime) for case in cases] == [
        (seed, pool, pool[:-2]) for seed in (0, 4) for pool in POOLS
    ]
    noisy = cases[1]
    assert noisy.known.updates == POOLS["noise-1"]
    assert noisy.known.claims == ("eval", "past", "index")
    assert noisy.kinds == ("noise", "good", "good")
    assert noisy.known.tasks == TASKS
    # Every subset, and everything with less of one; plans of other pools are not its own.
    assert len(noisy.plans_pt) == 8 + 3
    assert not noisy.plans_pt[0].any()
    assert {LESS, 0.0, 1.0} == set(noisy.plans_pt.flatten())


def test_values_are_changes_from_the_base(cases: list[PoolCase]) -> None:
    case = cases[1]  # noise, past, index
    for split in ("dev", "test"):
        assert case.value((0, 0, 0), split) == 0
        assert case.value((0, 1, 0), split) == pytest.approx(0.3 / 4)
        assert case.value((0, 1, 1), split) == pytest.approx(0.6 / 4)
        assert case.value((1, 1, 1), split) == pytest.approx(0.6 / 4 - 0.2)
        assert case.value((LESS, 1, 1), split) == pytest.approx(0.6 / 4 - 0.02)
        assert math.isnan(case.value((LESS, LESS, 1), split))
    tasks = case.test[case.index((0, 1, 0))]
    assert tasks == pytest.approx([0.3, 0, 0, 0], abs=1e-12)
    assert case.everything() == (1, 1, 1)
    assert case.with_strength(1, LESS) == (1, LESS, 1)
    assert [case.marginal(j) for j in range(3)] == pytest.approx([-0.2, 0.3 / 4, 0.3 / 4])


def test_what_is_known_is_of_dev_and_of_its_seed(cases: list[PoolCase]) -> None:
    solo = TABLES["solo"]
    for case in cases:
        own = solo[(solo["seed"] == case.seed) & (solo["split"] == "dev")]
        base = own[own["update"] == ""].set_index("task")["em"]
        assert case.known.base == pytest.approx(base[list(TASKS)].to_numpy())
        updates = TABLES["updates"].query("seed == @case.seed").set_index("update")
        assert case.known.relative_norm == pytest.approx(updates["relative_norm"][list(case.known.updates)].to_numpy())
        pairs = TABLES["pairs"].query("seed == @case.seed").set_index(["i", "j"])["sar"]
        first, second, _ = case.known.updates
        assert case.known.pairs["sar"][0, 1] == pytest.approx(pairs[first, second])
        assert np.isnan(np.diagonal(case.known.pairs["sar"])).all()
        assert case.known.has_labels
        assert case.known.has_prompts


def test_scores_of_dev_do_not_reach_the_test_split() -> None:
    tables = {name: table.copy() for name, table in TABLES.items()}
    plans = tables["plans"]
    plans.loc[plans["split"] == "dev", "em"] += 0.5
    before, after = (pool_cases(own, "wudi") for own in (TABLES, tables))
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.test, other.test)
        assert other.dev[1:] == pytest.approx(one.dev[1:] + 0.5)
        # A fit takes both, weighed by their number of examples.
        assert other.case().change_pk[1:] == pytest.approx(one.case().change_pk[1:] + 0.5 / 3)
        assert other.case().group == one.seed


def test_seeds_methods_and_unscored_plans() -> None:
    assert {case.seed for case in pool_cases(TABLES, "wudi", [4, 9])} == {4}
    assert pool_cases(TABLES, "gcwm") == []
    plans = TABLES["plans"]
    # Plans that a pool shares with others do not make it a case.
    noisy = ",".join(sorted(f"{name}:1" for name in POOLS["noise-1"]))
    part = pool_cases(TABLES | {"plans": plans[plans["plan"] != noisy]}, "wudi", [0])
    assert [case.pool for case in part] == ["good-1", "mixed-1"]
    unscored = TABLES | {"plans": plans[~((plans["split"] == "dev") | plans["plan"].str.contains("0.333"))]}
    case = pool_cases(unscored, "task-arithmetic")[0]
    assert len(case.plans_pt) == 8
    assert np.isnan(case.dev[1:]).all()
    assert np.array_equal(case.case().change_pk, case.test)
    assert case.case().model == "lab"
    assert np.isfinite(case.test).all()
    assert math.isnan(case.value(case.with_strength(0, LESS)))
