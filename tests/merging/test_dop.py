"""DOP: the least-squares minimum, its equation, and what is outside both updates."""

from typing import Any

import pytest
import torch

from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.merging.methods.dop import held_on_both_sides
from tests import oracles
from tests.factories import low_rank_updates, orthogonal, updates
from tests.merging.steps import close, merge
from tests.rounding import rounding

SHAPES = [(9, 7), (7, 9), (8, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weight", [0.5, 0.75, 0.1])
def test_against_least_squares(shape: tuple[int, int], weight: float) -> None:
    state, arriving = updates(2, *shape, seed=8, dtype=torch.float64)
    expected = oracles.dop(state.numpy(), arriving.numpy(), weight)
    # σ runs over a factor of 9, so the sums a + b of squares over 81.
    close(held_on_both_sides(state, arriving, weight), expected, 4 * rounding(9, condition=81))


def test_the_equation_holds() -> None:
    p, t = updates(2, 11, 8, seed=3, dtype=torch.float64)
    m = dense(held_on_both_sides(p, t, 0.6))
    a = 0.6 * p @ p.mT + 0.4 * t @ t.mT
    b = 0.6 * p.mT @ p + 0.4 * t.mT @ t
    close(a @ m + m @ b, 2 * (0.6 * p @ p.mT @ p + 0.4 * t @ t.mT @ t), 4 * rounding(11))


def test_equal_updates_stay_and_orthogonal_ones_add_up() -> None:
    delta = updates(1, 9, 7, seed=1, dtype=torch.float64)[0]
    close(held_on_both_sides(delta, delta, 0.3), delta, rounding(9, condition=81))
    left, right = orthogonal(9, 1), orthogonal(7, 2)
    first, second = left[:, :3] @ right[:, :3].mT, 5 * left[:, 3:6] @ right[:, 3:6].mT
    close(held_on_both_sides(first, second, 0.3), first + second, 10 * rounding(9, condition=25))


def test_what_no_update_touches_is_zero() -> None:
    thin = low_rank_updates(2, 12, 10, 2, seed=4, dtype=torch.float64)
    merged = held_on_both_sides(thin[0], thin[1], 0.5)
    assert isinstance(merged, LowRank)
    assert merged.rank <= 4
    written = [delta.dense() for delta in thin]
    expected = oracles.dop(written[0].numpy(), written[1].numpy(), 0.5)
    pairs: list[tuple[Update, Update]] = [(thin[0], thin[1]), (written[0], written[1]), (written[0], thin[1])]
    for first, second in pairs:
        close(dense(held_on_both_sides(first, second, 0.5)), expected, 1e-9)
    outside = torch.linalg.qr(torch.cat([delta.right_ri for delta in thin]).mT, mode="complete")[0][:, 4:]
    assert float((merged.dense() @ outside).norm()) < 4 * rounding(12)


@pytest.mark.parametrize("spread", [1e-4, 1e-6])
def test_small_directions_keep_their_digits(spread: float) -> None:
    """Squares of the small singular values lie below the rounding of the large ones' squares."""
    left, right = orthogonal(8, 1), orthogonal(8, 2)
    sigma = torch.tensor([1.0] * 4 + [spread] * 4, dtype=torch.float64)
    first = (left * sigma) @ right.mT
    close(held_on_both_sides(first, first, 0.5), first, rounding(8, condition=1 / spread))


def test_a_sequence_by_its_steps() -> None:
    stack = updates(3, 9, 7, seed=5, dtype=torch.float64)
    second = held_on_both_sides(stack[0], stack[1], 0.5)
    close(merge("dop", stack), held_on_both_sides(second, stack[2], 0.5))
    second = held_on_both_sides(stack[0], stack[1], 1 / 2)
    close(merge("dop", stack, dop_weight=None), held_on_both_sides(second, stack[2], 2 / 3))
    close(merge("dop", stack, dop_weight=0.9, weights=[3.0, 1.0, 2.0]), merge("dop", stack, dop_weight=0.9))


def test_first_and_absent_updates() -> None:
    delta: Any = updates(1, 9, 7, seed=6, dtype=torch.float64)[0]
    zero = torch.zeros_like(delta)
    deltas: list[Update] = [zero, delta, zero]
    close(merge("dop", deltas), delta)
    thin = low_rank_updates(1, 9, 7, 2, dtype=torch.float64)[0]
    assert isinstance(merge("dop", [zero, thin]), LowRank)
