"""Which plan is measured next: against Monte Carlo, and on a planted truth."""

from itertools import product

import numpy as np
import pytest

from gcwm_viz.decide.forecast import Belief, Forecast, believe
from gcwm_viz.decide.knowledge import STRENGTHS, Array
from gcwm_viz.decide.search import (
    MOST_SUBSETS,
    Measured,
    candidate_plans,
    distinct,
    expected_improvement,
    improvement,
    next_plan,
    search,
)
from tests.factories_decide import all_plans, make_forecast, make_knowledge

LESS = STRENGTHS[0]
KNOWN = make_knowledge(4, tasks=4)


def as_set(plans: Array) -> set[tuple[float, ...]]:
    found = {tuple(map(float, plan)) for plan in plans}
    assert len(found) == len(plans)
    return found


@pytest.mark.parametrize("count", range(1, MOST_SUBSETS + 1))
def test_of_few_updates_every_subset(count: int) -> None:
    """2^n whole; 2^n − 1 with less of everything; n 2^(n−1) with less of one, of which n are the former alone."""
    plans = as_set(candidate_plans(count))
    assert len(plans) == 2**count + 2**count - 1 + count * 2 ** (count - 1) - count
    whole = {plan for plan in plans if set(plan) <= {0.0, 1.0}}
    assert whole == {tuple(map(float, bits)) for bits in product((0, 1), repeat=count)}
    assert {tuple(LESS * s for s in plan) for plan in whole} <= plans
    assert all(plan.count(LESS) == 1 or set(plan) <= {0.0, LESS} for plan in plans - whole)


def test_of_many_updates_those_around_a_good_plan() -> None:
    """Within two updates of everything, of nothing and of the given plan, whatever their strengths there."""
    count = MOST_SUBSETS + 4
    given = tuple([1.0, LESS] * 3 + [0.0] * (count - 6))
    plans = as_set(candidate_plans(count, [given]))
    whole = [np.array(plan) for plan in plans if set(plan) <= {0.0, 1.0}]
    centres = [np.ones(count), np.zeros(count), np.array(given) > 0]
    near = 1 + count + count * (count - 1) // 2
    assert len(whole) == 3 * near  # further apart than four, so no plan is near two of them
    assert all(min(int(np.abs(plan - centre).sum()) for centre in centres) <= 2 for plan in whole)
    assert len(plans) < 10 * count**2
    assert {tuple(LESS * s for s in centre.astype(float)) for centre in centres} <= plans
    assert len(candidate_plans(count)) < len(plans)


def test_distinct_leaves_out_what_rounding_told_apart() -> None:
    plans = np.array([[1.0, 0.0], [0.7 / 0.7, 1e-12], [LESS, 1.0], [1 - 2 * LESS, 1.0]])
    assert len(distinct(plans)) == 2


def normal(mean: list[float], sd: list[float]) -> Belief:
    plans = np.array([[0.0] * len(mean), *np.eye(len(mean))])
    base = believe(make_forecast(), make_knowledge(len(mean), tasks=1), plans)
    return Belief(plans, np.array([0.0, *mean]), np.array([0.0, *sd]), base.process)


def test_expected_improvement_is_the_mean_over_draws() -> None:
    belief = normal([0.1, 0.05, -0.2, 0.3], [0.05, 0.1, 0.1, 0.0])
    draws = np.random.default_rng(0).normal(size=(400_000, 5)) * belief.sd_p + belief.mean_p
    for best in (-0.1, 0.0, 0.2):
        expected = np.maximum(draws - best, 0).mean(0)
        assert expected_improvement(belief, best) == pytest.approx(expected, abs=5e-4)
    assert expected_improvement(belief, 0.2)[4] == pytest.approx(0.1)  # certain
    assert expected_improvement(belief, 0.0)[0] == 0.0


def one(at: int, value: float) -> Measured:
    return Measured(tuple(np.eye(4)[at]), value, 0.01)


def test_the_next_plan_is_worth_most_and_is_none_that_was_measured() -> None:
    belief = normal([0.1, 0.05, -0.2, 0.08], [0.01, 0.1, 0.1, 0.0])
    assert next_plan(belief, []) == 1
    assert next_plan(belief, [one(0, 0.1)]) == 2
    assert next_plan(belief, [one(0, 0.1), one(1, 0.05)], worth=0.01) is None
    # What is not looked at was measured for nothing here.
    assert next_plan(belief, [Measured((1.0, 1.0, 1.0, 1.0), 0.9, 0.01)]) == 1


def test_the_base_is_the_mark_to_beat_and_never_measured() -> None:
    """Every update harms: that one is less bad than another is no improvement."""
    belief = normal([-0.3, -0.2, -0.25, -0.4], [0.01, 0.01, 0.01, 0.01])
    assert next_plan(belief, [one(0, -0.3)]) is None
    assert (improvement(belief, [one(0, -0.3)]) < 1e-6).all()
    forecast = make_forecast("updates", own=-1.0, each=0.001, joint=0.001)
    known = make_knowledge(3)
    assert next_plan(believe(forecast, known, all_plans(3)), []) is None
    with_error = make_forecast("updates", own=-0.1, each=0.05, joint=0.2)
    at = next_plan(believe(with_error, known, all_plans(3)), [])
    assert at is not None
    assert at > 0


def harmful_first(noise: float) -> tuple[Forecast, dict[tuple[float, ...], float]]:
    """A truth that adds up: the forecast believes in all four updates alike, and the first does harm."""
    forecast = make_forecast("updates", own=0.2, each=0.1, joint=0.02)
    parts = np.array([-0.15, 0.08, 0.03, 0.05])
    rng = np.random.default_rng(5)
    truth = {tuple(map(float, plan)): float(plan @ parts + rng.normal(0, noise)) for plan in all_plans(4)}
    return forecast, truth


def test_a_search_finds_the_best_plan_in_few_measurements() -> None:
    forecast, truth = harmful_first(0.001)
    asked: list[tuple[float, ...]] = []

    def measure(plan: tuple[float, ...]) -> Measured:
        asked.append(plan)
        return Measured(plan, truth[plan], 0.005)

    beliefs = list(search(forecast, KNOWN, all_plans(4), measure))
    belief = beliefs[-1][1]
    assert tuple(belief.plans_pt[belief.best]) == (0, 1, 1, 1)
    assert asked[0] == (1, 1, 1, 1)  # what the forecast expects most of
    assert len(asked) == len(set(asked)) == len(beliefs)
    assert len(asked) <= 6  # of fifteen
    assert all(any(plan) for plan in asked)
    # It goes on from what is known already, and asks for nothing twice.
    known = [measured for measured, _ in beliefs]
    asked.clear()
    assert list(search(forecast, KNOWN, all_plans(4), measure, known)) == []
    assert asked == []


def test_a_search_without_worth_measures_nothing() -> None:
    forecast, _ = harmful_first(0.0)

    def never(plan: tuple[float, ...]) -> Measured:
        raise AssertionError(plan)

    assert list(search(forecast, KNOWN, all_plans(4), never, worth=10.0)) == []
