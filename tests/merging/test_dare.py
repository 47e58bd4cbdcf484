"""DARE by sum and by TIES."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gcwm_viz.merging.methods.dare import DareSettings, drop_and_rescale
from tests.factories import updates
from tests.merging.steps import MATRIX, close, merge
from tests.merging.test_ties import naive_ties
from tests.rounding import rounding

DELTAS = updates(3, 12, 10, seed=4, dtype=torch.float64)
NAMES = ["a", "b", "c"]


def masked(delta: Tensor, name: str, **options: Any) -> Tensor:
    return drop_and_rescale(delta, MATRIX, name, DareSettings(**options))


def test_without_drops_it_is_task_arithmetic_or_ties() -> None:
    close(merge("dare", DELTAS, dare_drop=0.0), merge("task-arithmetic", DELTAS))
    close(merge("dare-ties", DELTAS, dare_drop=0.0, ties_keep=0.4), merge("ties", DELTAS, ties_keep=0.4))


def test_entries_are_dropped_or_rescaled() -> None:
    dropped = masked(DELTAS[0], "a", dare_drop=0.75).numpy()
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], DELTAS[0].numpy()[kept] * 4, rtol=rounding(1))


def test_share_kept_and_expectation() -> None:
    ones = torch.ones(400, 400)
    dropped = masked(ones, "a")
    # 160,000 draws: the standard error of the share is 0.00075.
    assert float((dropped != 0).double().mean()) == pytest.approx(0.1, abs=0.003)
    many = torch.stack([masked(ones[:20, :20], "a", dare_seed=seed, dare_drop=0.5) for seed in range(400)])
    assert float(many.mean(0).sub(1).abs().max()) < 5 * 400**-0.5
    assert float(many.mean()) == pytest.approx(1.0, abs=0.01)


def test_sum_and_ties_of_the_dropped_updates() -> None:
    sparse = [masked(delta, name).numpy() for delta, name in zip(DELTAS, NAMES, strict=True)]
    weights = [1.0, 2.0, 0.5]
    total = sum(weight * delta for weight, delta in zip(weights, sparse, strict=True))
    close(merge("dare", DELTAS, names=NAMES, weights=weights), total)
    expected = naive_ties(sparse, weights, 0.2)
    close(merge("dare-ties", DELTAS, names=NAMES, weights=weights), expected)


def test_masks_depend_on_seed_matrix_and_update_alone() -> None:
    delta = torch.ones(12, 10)
    mask = masked(delta, "a", dare_drop=0.5)
    assert torch.equal(mask, masked(2 * delta, "a", dare_drop=0.5) / 2)
    assert torch.equal(mask != 0, masked(delta, "a", dare_drop=0.4) != 0) is False
    for other in (
        masked(delta, "b", dare_drop=0.5),
        masked(delta, "a", dare_drop=0.5, dare_seed=1),
        drop_and_rescale(delta, "another.weight", "a", DareSettings(dare_drop=0.5)),
    ):
        assert not torch.equal(mask, other)
    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert torch.equal(mask, masked(delta, "a", dare_drop=0.5))
    assert torch.equal(before, torch.get_rng_state())
