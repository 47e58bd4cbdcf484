"""What a way of choosing is worth: on made pools whose best plan is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.decide.benchmark.cases import PoolCase, pool_cases
from gcwm_viz.decide.benchmark.policies import Policy, forecast_policy, regrets, searched, simple_policies, summary
from gcwm_viz.decide.knowledge import STRENGTHS
from tests.decide.benchmark.made import LESS, make_tables
from tests.factories_decide import make_forecast

CASES = pool_cases(make_tables(), "wudi")
"""Pools of three good updates, and two in which a bad one costs 0.2 where the others gain 0.075 each."""
ORACLE = Policy("oracle", lambda case: int(case.test.mean(1).argmax()), 0)
SIMPLE = {policy.name: policy for policy in simple_policies()}


def chosen(policy: Policy, case: PoolCase) -> tuple[float, ...]:
    return tuple(case.plans_pt[policy.choose(case)])


def test_an_oracle_has_no_regret_and_everything_costs_what_the_bad_one_does() -> None:
    table = regrets(CASES, [ORACLE, SIMPLE["integrate all"]])
    value, regret = (table.pivot(index=["seed", "pool"], columns="policy", values=name) for name in ("value", "regret"))
    assert set(value) == {"oracle", "integrate all", "a random plan"}
    assert (regret["oracle"] == 0).all()
    cases = sorted(CASES, key=lambda case: (case.seed, case.pool))
    bad = np.array(["noise" in case.kinds for case in cases])
    assert regret["integrate all"].to_numpy() == pytest.approx(0.2 * bad, abs=1e-12)
    assert value["integrate all"].to_numpy() == pytest.approx([case.value(case.everything()) for case in cases])
    assert value["a random plan"].to_numpy() == pytest.approx([case.test.mean() for case in cases])
    assert np.allclose((value + regret).sub(value["oracle"], axis=0), 0)


def test_what_simple_policies_choose() -> None:
    case = CASES[1]  # noise, past, index
    assert case.kinds == ("noise", "good", "good")
    assert chosen(SIMPLE["integrate all"], case) == (1, 1, 1)
    for name in ("own gain", "leave-one-out on dev", "every subset on dev"):
        assert chosen(SIMPLE[name], case) == (0, 1, 1), name
    conflict = np.array([[np.nan, 0.9, 0.9], [0.9, np.nan, 0.1], [0.9, 0.1, np.nan]])
    known = replace(case.known, pairs=dict(case.known.pairs) | {"conflict": conflict})
    assert chosen(SIMPLE["conflict threshold"], replace(case, known=known)) == (0, 1, 1)
    all_high = replace(case.known, pairs=dict(case.known.pairs) | {"conflict": np.full((3, 3), 0.9)})
    assert chosen(SIMPLE["conflict threshold"], replace(case, known=all_high)) == (0, 0, 0)


def test_policies_do_not_see_the_test_split() -> None:
    shuffled = [replace(case, test=case.test[::-1]) for case in CASES]
    forecast = make_forecast("updates", own=0.1)
    policies = [*simple_policies(), *(forecast_policy("f", lambda case: forecast, n) for n in (0, 2))]
    for policy in policies:
        assert [policy.choose(case) for case in CASES] == [policy.choose(case) for case in shuffled], policy.name


def test_a_forecast_chooses_what_it_expects_most_of_and_learns_from_what_it_measures() -> None:
    """It believes in every update; the first plan that it measures is everything, which is worse than it thought."""
    case = CASES[1]
    forecast = make_forecast("updates", own=0.3, each=0.1, joint=0.01)
    assert chosen(forecast_policy("f", lambda case: forecast), case) == (1, 1, 1)
    places = searched(forecast, case, 6)
    assert tuple(case.plans_pt[places[0]]) == (1, 1, 1)
    assert tuple(case.plans_pt[places[-1]]) == (0, 1, 1)
    values = case.test.mean(1)[places]
    assert values[-1] == max(case.test.mean(1))
    for count in range(1, len(places)):
        policy = forecast_policy("f", lambda case: forecast, count)
        assert policy.choose(case) == places[count]
        assert policy.cost == count
    assert len(searched(forecast, case, 2)) == 3


@pytest.mark.parametrize("scale", [1.0, LESS])
def test_where_a_plan_was_not_scored_the_nearest_is_chosen(scale: float) -> None:
    """Of a model whose scores take long, everything and everything but one were scored, whole and with less."""
    case = replace(CASES[1], scale=scale)  # noise, past, index
    both = [(s, s, s) for s in (1.0, LESS)] + [(0.0, s, s) for s in (1.0, LESS)]
    few = replace(case, plans_pt=np.array([(0.0, 0.0, 0.0), *both]), dev=np.full((5, 4), np.nan), test=case.test[:5])
    assert chosen(SIMPLE["integrate all"], few) == (scale, scale, scale)
    assert chosen(SIMPLE["own gain"], few) == (0, scale, scale)
    fewer = replace(few, plans_pt=few.plans_pt[:3], dev=few.dev[:3], test=few.test[:3])
    assert chosen(SIMPLE["own gain"], fewer) == (scale, scale, scale)
    free = [policy for policy in simple_policies() if not policy.cost]
    assert regrets([fewer], free)["value"].notna().all()


def test_shares_are_of_integrating_everything() -> None:
    table = pd.DataFrame(
        [
            {"seed": seed, "policy": policy, "regret": regret, "cost": cost}
            for seed in range(3)
            for policy, regret, cost in (("integrate all", 0.2 + 0.01 * seed, 0), ("half", 0.1 + 0.005 * seed, 3))
            for _ in range(2)
        ]
    )
    found = summary(table).set_index("policy")
    assert found["share"].to_dict() == pytest.approx({"integrate all": 1, "half": 0.5})
    assert found.loc["half", "regret"] == pytest.approx(0.105)
    assert found.loc["half", "low"] == pytest.approx(0.1, abs=2e-3)
    assert found.loc["half", "high"] == pytest.approx(0.11, abs=2e-3)
    assert (found["pools"] == 6).all()
    assert found.loc["half", "cost"] == 3
    assert STRENGTHS[0] == LESS
