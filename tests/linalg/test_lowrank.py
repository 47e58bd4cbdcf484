import pytest
import torch

from gcwm_viz.linalg.lowrank import LowRank, accumulate, dense, map_rows, squared_norm, times
from tests.factories import generator, low_rank_updates
from tests.rounding import rounding


@pytest.fixture
def update() -> LowRank:
    return low_rank_updates(1, 7, 5, 2, dtype=torch.float64)[0]


def test_operations_equal_those_of_the_product(update: LowRank) -> None:
    full = update.dense()
    assert update.shape == full.shape == (7, 5)
    assert dense(update).equal(full)
    assert dense(full) is full
    x = torch.randn(5, 3, generator=generator(0), dtype=torch.float64)
    torch.testing.assert_close(times(update, x), full @ x)
    torch.testing.assert_close(dense(map_rows(update, lambda rows: rows @ x)), full @ x)
    assert squared_norm(update) == pytest.approx(float(full.square().sum()), rel=2 * rounding(7 * 5), abs=0)
    total = torch.ones(7, 5, dtype=torch.float64)
    torch.testing.assert_close(accumulate(update, total, 2.0), 1 + 2 * full)
    assert accumulate(full, total) is total


def test_norm_does_not_cancel_in_opposed_factors() -> None:
    column = torch.ones(4, 1)
    row = torch.ones(1, 3)
    nothing = LowRank(torch.cat([column, -column], 1), torch.cat([row, row], 0))
    assert squared_norm(nothing) <= 12 * rounding(4) ** 2  # 12 entries, each a sum of a few roundings


def test_conversion_takes_both_factors(update: LowRank) -> None:
    half = update.to(dtype=torch.float16)
    assert half.dtype == half.right_ri.dtype == torch.float16
    assert half.device == update.device


@pytest.mark.parametrize(("left", "right"), [((3, 2), (3, 4)), ((3,), (3, 4)), ((3, 2), (2,))])
def test_factors_that_do_not_fit_are_refused(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="low-rank factors must be"):
        LowRank(torch.zeros(left), torch.zeros(right))
