"""Iso-C and Iso-CTS against the papers' formulas, and what happens where a singular value is zero."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import LowRank, dense
from tests import oracles
from tests.factories import low_rank_updates, orthogonal, updates
from tests.merging.steps import close, merge
from tests.rounding import rounding

SHAPES = [(9, 7), (7, 9), (12, 12)]
FULL = 1e3 * rounding(12)
"""Singular vectors are as exact as the gaps between singular values let them be, some thousandth of the largest."""


def nuclear(x: Tensor) -> float:
    return float(torch.linalg.svdvals(x).sum())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("m", [1, 2, 4])
def test_against_the_formulas_for_updates_of_full_rank(shape: tuple[int, int], m: int) -> None:
    stack = updates(m, *shape, seed=8, dtype=torch.float64)
    close(merge("iso-c", stack), oracles.iso_c(stack.numpy()), FULL)
    for share in (0.0, 0.5, 0.8, 1.0):
        expected = oracles.iso_cts(stack.numpy(), share, min(shape))
        close(merge("iso-cts", stack, iso_common=share), expected, FULL)


@pytest.mark.parametrize("method", ["iso-c", "iso-cts"])
def test_adapters_are_merged_in_their_core_space(method: str) -> None:
    """Of small matrices between orthonormal bases of the stacked factors, as arXiv 2509.17786 has it."""
    thin = low_rank_updates(3, 30, 20, 4, seed=2, dtype=torch.float64)
    left = torch.linalg.qr(torch.cat([delta.left_or for delta in thin], dim=1))[0]
    right = torch.linalg.qr(torch.cat([delta.right_ri for delta in thin]).mT)[0]
    cores = np.stack([(left.mT @ delta.dense() @ right).numpy() for delta in thin])
    core = oracles.iso_c(cores) if method == "iso-c" else oracles.iso_cts(cores, 0.8, 12)
    merged = merge(method, thin)
    assert isinstance(merged, LowRank)
    assert merged.rank <= 12
    close(merged.dense(), left @ torch.from_numpy(core) @ right.mT, FULL)


@pytest.mark.parametrize("method", ["iso-c", "iso-cts"])
def test_all_singular_values_are_the_mean(method: str) -> None:
    stack = updates(3, 10, 8, seed=4, dtype=torch.float64)
    sigma = torch.linalg.svdvals(merge(method, stack))
    close(sigma, sigma.mean().expand(8), FULL)
    if method == "iso-c":
        assert float(sigma.sum()) == pytest.approx(nuclear(stack.sum(0)), rel=FULL, abs=0)


@pytest.mark.parametrize("method", ["iso-c", "iso-cts"])
def test_directions_that_the_sum_does_not_have_stay_empty(method: str) -> None:
    """The same in any basis of the null space, which has no preferred one."""
    deltas = [delta.dense() for delta in low_rank_updates(3, 9, 8, 2, seed=1, dtype=torch.float64)]
    left, right = orthogonal(9, 1), orthogonal(8, 2)
    merged = merge(method, deltas)
    assert int(torch.linalg.matrix_rank(merged, rtol=1e-9)) == 6
    close(merge(method, [left @ delta @ right for delta in deltas]), left @ merged @ right, FULL)


@pytest.mark.parametrize("rank", [2, 8])
def test_the_same_update_twice(rank: int) -> None:
    """Iso-C doubles; the vectors of both copies depend on each other, and TSV-M averages over them."""
    delta = low_rank_updates(1, 9, 8, rank, seed=3, dtype=torch.float64)[0].dense()
    close(merge("iso-c", [delta, delta]), 2 * merge("iso-c", [delta]), FULL)
    u, sigma, vt = torch.linalg.svd(delta, full_matrices=False)
    close(merge("tsv-m", [delta, delta]), (u[:, :4] * sigma[:4]) @ vt[:4], FULL)


@pytest.mark.parametrize("method", ["iso-c", "iso-cts"])
def test_updates_that_cancel(method: str) -> None:
    delta = updates(1, 9, 8, seed=5, dtype=torch.float64)[0]
    merged = merge(method, [delta, -delta])
    if method == "iso-c":
        assert not bool(merged.any())
    assert bool(merged.isfinite().all())
    # A rest of float32's rounding is a sum of zero too.
    assert float(merge("iso-c", [delta, (-delta).float().double()]).norm()) == 0.0


def test_weights_scale_the_updates() -> None:
    stack = updates(3, 10, 8, seed=6, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.25, 2.0], dtype=torch.float64)
    for method in ("iso-c", "iso-cts", "tsv-m"):
        close(merge(method, stack, weights=weights.tolist()), merge(method, stack * weights[:, None, None]), FULL)


def test_a_mixture_of_forms_and_more_columns_than_the_matrix_has_are_dense() -> None:
    thin = low_rank_updates(2, 12, 9, 5, seed=7, dtype=torch.float64)
    for method in ("iso-c", "iso-cts", "tsv-m"):
        merged = merge(method, thin)  # 5 + 5 > 9
        assert isinstance(merged, Tensor)
        close(merge(method, [dense(thin[0]), thin[1]]), merged, FULL)
