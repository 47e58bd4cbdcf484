"""TSV-M against its formula, and where truncation and dependent vectors decide."""

import pytest
import torch

from gcwm_viz.linalg.lowrank import LowRank
from tests import oracles
from tests.factories import low_rank_updates, orthogonal, updates
from tests.merging.steps import close, merge
from tests.rounding import rounding

BOUND = 1e3 * rounding(12)
"""As in ``test_isotropic``: vectors are as exact as the gaps between singular values."""


@pytest.mark.parametrize("shape", [(9, 7), (7, 9), (12, 12)])
@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_against_the_formula(shape: tuple[int, int], m: int) -> None:
    stack = updates(m, *shape, seed=8, dtype=torch.float64)
    close(merge("tsv-m", stack), oracles.tsv_m(stack.numpy()), BOUND)


def test_adapters_are_not_truncated_and_keep_their_rank() -> None:
    thin = [low_rank_updates(1, 40, 30, rank, seed=rank, dtype=torch.float64)[0] for rank in (2, 5, 9)]
    merged = merge("tsv-m", thin)
    assert isinstance(merged, LowRank)
    assert merged.rank == 16
    close(merged.dense(), merge("tsv-m", [delta.dense() for delta in thin]), BOUND)


def test_orthogonal_updates_are_summed() -> None:
    left, right = orthogonal(12, 1), orthogonal(12, 2)
    sigma = torch.tensor([3.0, 2.0, 1.5, 1.0], dtype=torch.float64)
    blocks = [(left[:, k : k + 4] * sigma) @ right[:, k : k + 4].mT for k in (0, 4, 8)]
    close(merge("tsv-m", blocks), sum(blocks), BOUND)
    close(merge("tsv-m", updates(1, 9, 7, seed=1, dtype=torch.float64)), updates(1, 9, 7, seed=1)[0], 1e-6)


def test_more_updates_than_directions_keep_one_triplet_each() -> None:
    stack = updates(5, 4, 3, seed=2, dtype=torch.float64)
    merged = merge("tsv-m", stack)
    assert bool(merged.isfinite().all())
    assert bool(merged.any())
