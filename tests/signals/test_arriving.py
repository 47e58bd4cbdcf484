"""An update in training gives what it gives as one of several finished ones, at less work."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.linalg.subspace import right_subspace
from gcwm_viz.signals.arriving import Arriving, Settled, arriving
from gcwm_viz.signals.interference import interference
from gcwm_viz.signals.state import incoming_conflict
from tests.factories import generator, low_rank_updates, updates
from tests.other_device import There, TwoDevices, there
from tests.rounding import rounding

CONFIG = GCWMConfig(analysis_rank=4)
BOUND = 100 * rounding(24, condition=1e3)
SHAPE = (14, 24)
WEIGHT = torch.randn(SHAPE, generator=generator(7))


def mixed() -> list[Update]:
    return [*updates(2, *SHAPE, overlap=0.6), *low_rank_updates(2, *SHAPE, rank=3)]


def measured(earlier: list[Update | None], state: Update | None, delta: Update | None) -> Arriving:
    return arriving(Settled.of(WEIGHT, earlier, state, CONFIG), WEIGHT, delta, CONFIG)


@pytest.mark.parametrize("last", [1, 3], ids=["dense", "factored"])
def test_the_same_as_all_updates_at_once(last: int) -> None:
    deltas = mixed()
    delta, state = deltas.pop(last), 0.7 * dense(deltas[0]) + dense(deltas[1])
    found = measured([*deltas], state, delta)
    expected = interference(WEIGHT, [*deltas, delta], CONFIG)
    for name in ("interference", "one_sided", "sar"):
        assert found.effects.tables[name][:3, 3].tolist() == pytest.approx(
            expected.tables[name][:3, 3].tolist(), rel=BOUND
        )
        assert bool(found.effects.tables[name][:, :3].isnan().all())
    assert found.effects.squared_norm.tolist() == pytest.approx(expected.squared_norm.tolist(), rel=BOUND)
    assert found.effects.base_squared_norm == expected.base_squared_norm
    assert float(found.effects.intruders[3]) == float(expected.intruders[3])
    own, other = (right_subspace(each, CONFIG.analysis_rank, CONFIG.analysis_energy) for each in (delta, state))
    assert found.incoming == pytest.approx(incoming_conflict(other, own, CONFIG), rel=BOUND)


def test_what_is_absent_is_undefined() -> None:
    delta, other = updates(2, *SHAPE)
    found = measured([None, other], None, delta)
    assert found.effects.tables["interference"][:, 2].isnan().tolist() == [True, False, True]
    assert found.effects.squared_norm.isnan().tolist() == [True, False, False]
    assert math.isnan(found.incoming)
    assert math.isnan(measured([other], torch.zeros(SHAPE), delta).incoming)
    none = measured([other], other, None)
    assert none.effects.squared_norm.isnan().tolist() == [False, True]
    assert math.isnan(none.incoming)


def test_intruders_of_a_large_matrix_are_left_out() -> None:
    delta, other = updates(2, *SHAPE)
    found = arriving(Settled.of(WEIGHT, [other], other, CONFIG, largest=23), WEIGHT, delta, CONFIG)
    assert bool(found.effects.intruders.isnan().all())


def test_the_same_from_another_device() -> None:
    deltas = mixed()
    here = measured([*deltas[:3]], deltas[0], deltas[3])

    def sent(update: Update) -> Any:
        if isinstance(update, LowRank):
            return LowRank(there(update.left_or), there(update.right_ri))
        return there(update)

    with TwoDevices():
        found = measured([sent(each) for each in deltas[:3]], sent(deltas[0]), sent(deltas[3]))
    tables: dict[str, Tensor] = found.effects.tables
    assert not any(isinstance(table, There) for table in tables.values())
    for name in ("interference", "sar"):
        assert tables[name].nan_to_num().tolist() == here.effects.tables[name].nan_to_num().tolist()
    assert found.incoming == here.incoming
