"""An order of arrival in which every step is expected to bring most."""

import pytest

from gcwm_viz.decide.order import best_first
from gcwm_viz.decide.outlook import Outlook, outlook
from gcwm_viz.decide.search import Measured
from tests.factories_decide import make_forecast, make_knowledge


def looking(plan_values: dict[tuple[float, ...], float], eta: float = 1.0) -> Outlook:
    """Four updates of which a forecast knows nothing, and what was measured of some plans."""
    measured = [Measured(tuple(eta * s for s in plan), value, 1e-4) for plan, value in plan_values.items()]
    return outlook(make_knowledge(4, tasks=4), make_forecast(each=0.3, joint=0.01), eta, measured)


def unit(*places: int) -> tuple[float, ...]:
    return tuple(float(k in places) for k in range(4))


@pytest.mark.parametrize("eta", [1.0, 0.4])
def test_the_greatest_gain_comes_first(eta: float) -> None:
    parts = {0: 0.1, 1: 0.3, 2: 0.02, 3: 0.2}
    now = looking({unit(place): value for place, value in parts.items()}, eta)
    assert now.plan == tuple(eta * s for s in unit(0, 1, 2, 3))
    assert best_first(now) == [1, 3, 0, 2]


def test_what_is_left_out_of_the_plan_does_not_arrive() -> None:
    now = looking({unit(0): 0.1, unit(1): -0.3, unit(2): 0.2, unit(3): 0.05})
    assert now.plan[1] == 0
    assert best_first(now) == [2, 0, 3]
    nothing = looking({unit(place): -0.5 for place in range(4)})
    assert best_first(nothing) == []


def test_an_update_that_is_best_alone_need_not_come_next() -> None:
    parts = {unit(0): 0.3, unit(1): 0.29, unit(2): 0.1, unit(3): 0.1}
    now = looking(parts | {unit(0, 1): 0.31, unit(0, 2): 0.5, unit(0, 1, 2, 3): 0.7})
    order = best_first(now)
    assert order[:2] == [0, 2]
    assert sorted(order) == [0, 1, 2, 3]
