"""Pools: their regimes, members and plans, and that they are drawn from the seed alone."""

from itertools import pairwise

import numpy as np
import pytest

from gcwm_viz.decide.benchmark.lab import FITTED, REPORTED
from gcwm_viz.decide.benchmark.pools import (
    GOOD,
    KINDS,
    LESS,
    MIXED,
    REGIMES,
    SIZE,
    Pool,
    Variant,
    key_of,
    leave_one_out,
    lessened,
    pools,
    subsets,
    with_less,
)
from gcwm_viz.decide.benchmark.smollm2 import QUICK, SMOLLM2_KINDS, TRAINED, SmolLM2Pools
from gcwm_viz.experiments.lab.data import TASKS

SEEDS = range(12)


def all_pools() -> list[Pool]:
    return [pool for seed in SEEDS for pool in pools(TASKS, seed)]


def test_every_regime_has_its_pools() -> None:
    for seed in SEEDS:
        found = pools(TASKS, seed)
        regimes = [pool.regime for pool in found]
        assert set(regimes) == set(REGIMES)
        assert all(regimes.count(regime) == 2 for regime in (*KINDS, MIXED))
        assert len({pool.name for pool in found}) == len(found)
        # Two draws of good updates, unless they are the same set.
        good = [frozenset(pool.variants) for pool in found if pool.regime == GOOD]
        assert 1 <= len(good) <= 2
        assert len(set(good)) == len(good)


def test_a_pool_has_five_different_updates_of_its_regime() -> None:
    for pool in all_pools():
        kinds = [variant.kind for variant in pool.variants if variant.kind != GOOD]
        assert len(pool.variants) == SIZE == len({variant.name for variant in pool.variants})
        if pool.regime == MIXED:
            assert len(set(kinds)) == len(kinds) == 3
        elif pool.regime == GOOD:
            assert kinds == []
        else:
            assert kinds == [pool.regime] * int(pool.name[-1])


def test_a_bad_update_stands_in_for_the_good_one_and_a_duplicate_beside_it() -> None:
    for pool in all_pools():
        good = {variant.task for variant in pool.variants if variant.kind == GOOD}
        bad = {variant.task for variant in pool.variants if variant.kind != GOOD}
        if pool.regime == "duplicate":
            assert bad <= good
        elif pool.regime != MIXED:
            assert not bad & good
        for variant in pool.variants:
            assert (variant.kind == "wrong-name") == bool(variant.data)
            if pool.regime == "wrong-name" and variant.data:  # the task that it really learned has its own update
                assert variant.data in good
                assert variant.data != variant.task


def test_pools_are_drawn_from_the_seed_alone() -> None:
    assert pools(TASKS, 3) == pools(TASKS, 3)
    drawn = [frozenset(pools(TASKS, seed)) for seed in SEEDS]
    assert len(set(drawn)) == len(drawn)


def test_the_second_pool_of_a_kind_has_the_first_ones_bad_update_too() -> None:
    by_name = {pool.name: pool for pool in pools(TASKS, 1)}
    for kind in KINDS:
        one, two = ([v for v in by_name[f"{kind}-{n}"].variants if v.kind == kind] for n in (1, 2))
        assert one == two[:1]


def test_names_of_variants_differ() -> None:
    variants = [Variant(task, kind) for task in TASKS for kind in (GOOD, *KINDS)]
    variants += [Variant("past", "wrong-name", data) for data in TASKS]
    assert len({variant.name for variant in variants}) == len(variants)
    assert Variant("past").name == "past"


def test_plans() -> None:
    assert len(set(subsets(5))) == 32
    assert with_less(3) == [(LESS, 1, 1), (1, LESS, 1), (1, 1, LESS)]
    assert leave_one_out(3) == [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0)]
    assert np.array(lessened(leave_one_out(3))) == pytest.approx(LESS * np.array(leave_one_out(3)))
    assert set(leave_one_out(4)) <= set(subsets(4))


def test_pools_that_share_updates_share_what_was_measured() -> None:
    """A key names what is merged: no pool, no order, nothing that is left out."""
    a, b, c = Variant("past"), Variant("eval", "noise"), Variant("index")
    assert key_of((a, b, c), (1, LESS, 0)) == key_of((c, b, a), (0, LESS, 1)) == key_of((b, a), (LESS, 1))
    assert key_of((a, b), (1, LESS)) != key_of((a, b), (LESS, 1))
    assert key_of((a, b), (0, 0)) == ""
    keys = [{key_of(pool.variants, plan) for plan in subsets(SIZE)} for pool in pools(TASKS, 0)]
    assert all(len(own) == 2**SIZE for own in keys)
    assert len(set().union(*keys)) < sum(map(len, keys))
    assert any(len(one & other) > 1 for one, other in pairwise(keys))


def test_seeds_of_the_fit_report_nothing() -> None:
    assert not set(FITTED) & set(REPORTED)
    assert len({*FITTED, *REPORTED}) >= 6


def test_trained_bad_updates_of_smollm2_are_of_the_tasks_that_train_fastest() -> None:
    bench = SmolLM2Pools.__new__(SmolLM2Pools)
    bench.tasks = ("country", "chemistry", "words", "close", "history")
    for seed in SEEDS:
        for pool in pools(bench.tasks, seed, SMOLLM2_KINDS, bench._order, counts=(1,)):
            assert len(pool.variants) == SIZE
            for variant in pool.variants:
                if variant.kind in TRAINED:
                    assert variant.task in QUICK
                    assert variant.data in ("", *QUICK)
                # The first task was trained from the base, so its step of the sequence is no other base's.
                assert (variant.kind, variant.task) != ("other-base", bench.tasks[0])
