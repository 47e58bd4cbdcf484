"""Verdicts on beliefs made by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from gcwm_viz.decide.forecast import Belief, believe
from gcwm_viz.decide.knowledge import STRENGTHS
from gcwm_viz.decide.verdict import CLEAR, SMALL, Verdict, judge, levels, looked_at
from gcwm_viz.errors import InputError
from gcwm_viz.statistics.means import Z95
from tests.factories_decide import make_forecast, make_knowledge

LESS = STRENGTHS[0]
ALL = (1.0, 1.0, 1.0)
EACH = 0.05
"""Standard deviation that an update at strength 1 adds; nothing else is uncertain here."""


def believed(plan: tuple[float, ...], mean: Callable[..., float], scale: float = 1.0) -> Belief:
    """``mean`` of every plan, which is called with the strengths as shares of ``scale``."""
    plans = looked_at(plan, scale)
    uncertain = believe(make_forecast(each=EACH, joint=1e-6), make_knowledge(len(plan)), plans)
    return Belief(plans, np.array([mean(*own / scale) for own in plans]), uncertain.sd_p, uncertain.process)


def verdict(mean: Callable[..., float], plan: tuple[float, ...] = ALL, scale: float = 1.0) -> Verdict:
    """On the first update."""
    return judge(believed(plan, mean, scale), plan, 0, scale)


def test_integrate() -> None:
    found = verdict(lambda a, b, c: 0.2 * a + 0.1 * b + 0.1 * c)
    assert (found.choice, found.strength, found.other) == ("integrate", 1.0, None)
    assert found.expected == pytest.approx((0.4, 0.2 + 0.2 * LESS, 0.2))
    assert found.gain == pytest.approx(0.2)
    # The plans differ by this update alone.
    assert (found.low, found.high) == pytest.approx((0.2 - Z95 * EACH, 0.2 + Z95 * EACH), abs=1e-5)
    assert found.harm == pytest.approx(norm.cdf(-0.2 / EACH), abs=1e-6)
    assert found.certain
    assert not verdict(lambda a, b, c: 0.05 * a).certain


def test_less_where_less_is_better_by_more_than_a_little() -> None:
    def too_strong(a: float, b: float, c: float) -> float:
        return {0.0: 0.0, 1.0: 0.1}.get(a, 0.2)

    found = verdict(too_strong)
    assert (found.choice, found.strength) == ("less", LESS)
    assert found.gain == pytest.approx(0.2)
    # A third of an update adds a third of its error.
    assert found.high - found.gain == pytest.approx(Z95 * EACH * LESS, abs=1e-5)
    assert found.harm == pytest.approx(norm.cdf(-0.1 / EACH), abs=1e-5)  # of the whole
    hardly = verdict(lambda a, b, c: {0.0: 0.0, 1.0: 0.1}.get(a, 0.1 + 0.9 * SMALL))
    assert hardly.choice == "integrate"
    # The whole does harm, less of it helps.
    assert verdict(lambda a, b, c: {0.0: 0.0, 1.0: -0.1}.get(a, 0.02)).choice == "less"


def test_hold() -> None:
    found = verdict(lambda a, b, c: -0.3 * a + 0.1 * b + 0.1 * c)
    assert (found.choice, found.strength, found.other) == ("hold", 0.0, None)
    assert found.gain == pytest.approx(-0.3)
    assert found.certain
    assert found.harm > 0.999
    assert verdict(lambda a, b, c: 0.1 * b).choice == "hold"  # nothing is gained by it


def twins(a: float, b: float, c: float) -> float:
    """The first two bring the same thing, once."""
    return 0.2 * max(a, b) + 0.1 * c


def test_redundant_with_the_update_in_whose_place_it_would_gain() -> None:
    found = verdict(twins)
    assert (found.choice, found.strength, found.other) == ("redundant", 0.0, 1)
    both = believed(ALL, twins)
    assert judge(both, ALL, 1).other == 0
    assert judge(both, ALL, 2).choice == "integrate"
    # Of a plan without it, it is still redundant with the one that is there.
    out = (0.0, 1.0, 1.0)
    assert verdict(twins, out).choice == "redundant"
    # One that brings nothing anywhere is held.
    assert verdict(lambda a, b, c: 0.9 * CLEAR * max(a, b)).choice == "hold"


def test_a_twin_that_still_brings_something_beside_it_is_integrated() -> None:
    found = verdict(lambda a, b, c: 0.2 * max(a, b) + 3 * SMALL * a * b)
    assert found.choice == "integrate"


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_strengths_are_shares_of_a_whole_update(scale: float) -> None:
    """With η = 0.3, whole is 0.3 and less is a third of that."""
    plan = (scale, scale, scale)
    assert levels(plan, 1, scale) == [plan, (scale, scale * LESS, scale), (scale, 0.0, scale)]
    found = verdict(lambda a, b, c: 0.2 * a, plan, scale)
    assert (found.choice, found.strength) == ("integrate", scale)
    assert found.high - found.gain == pytest.approx(Z95 * EACH * scale, abs=1e-5)
    assert verdict(lambda a, b, c: {0.0: 0.0, 1.0: 0.1}.get(a, 0.2), plan, scale).strength == scale * LESS
    assert verdict(twins, plan, scale).other == 1


@pytest.mark.parametrize("plan", [ALL, (1.0, LESS, 0.0), (0.0, 0.0, 0.0), (1.0,)])
def test_all_that_a_verdict_compares_is_looked_at(plan: tuple[float, ...]) -> None:
    plans = looked_at(plan)
    assert len(np.unique(plans, axis=0)) == len(plans)
    belief = believed(plan, lambda *own: sum(own))
    for update in range(len(plan)):
        assert all(belief.index(level) is not None for level in levels(plan, update))
        assert judge(belief, plan, update).choice == "integrate"


def test_a_plan_that_is_not_looked_at_is_refused() -> None:
    belief = believed(ALL, lambda *own: sum(own))
    with pytest.raises(InputError, match=r"plan \(1\.0, 0\.5, 1\.0\) is none of those that are looked at"):
        judge(belief, (1.0, 0.5, 1.0), 0)


def test_against_the_base_an_update_alone_is_as_uncertain_as_its_own_score() -> None:
    belief = believed((1.0, 0.0, 0.0), lambda a, b, c: 0.1 * a)
    found = judge(belief, (1.0, 0.0, 0.0), 0)
    assert found.high - found.gain == pytest.approx(Z95 * EACH, abs=1e-5)
