"""The accelerated factor iteration against POT, closed forms and the fixed-point equation."""

import numpy as np
import pytest
import torch
from torch import Tensor

from gcwm_viz.linalg.barycenter import barycenter, barycenter_floored
from gcwm_viz.linalg.bures import bures_squared
from gcwm_viz.linalg.psd import sqrtm
from tests import oracles
from tests.factories import covariances, orthogonal
from tests.rounding import rounding


def weights(*values: float) -> Tensor:
    w = torch.tensor(values, dtype=torch.float64)
    return w / w.sum()


def relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.matrix_norm(a - b) / torch.linalg.matrix_norm(b))


@pytest.mark.parametrize(("m", "smallest"), [(2, 1e-1), (3, 1e-2), (4, 1e-3)])
def test_agrees_with_pot(m: int, smallest: float) -> None:
    covs, w = covariances(m, 8, smallest=smallest, seed=m), weights(*range(1, m + 1))
    result = barycenter(sqrtm(covs), w)
    assert result.converged
    reference = torch.from_numpy(oracles.barycenter(covs.numpy(), w.numpy()))
    # POT stops when its iterate moves less than rounding; its slow tail leaves about this much.
    assert relative(result.value_nn, reference) < 5e-8


@pytest.mark.parametrize("smallest", [1e-3, 1e-6, 1e-9])
def test_satisfies_the_papers_fixed_point_even_when_near_singular(smallest: float) -> None:
    covs, w = covariances(3, 12, smallest=smallest, seed=1), weights(1, 1, 2)
    result = barycenter(sqrtm(covs), w)
    assert result.converged
    assert result.residual <= 1e-10
    root = sqrtm(result.value_nn)
    # B = Σ ω_i (B^{1/2} B_i B^{1/2})^{1/2}, the same equation without the inverse; its roots keep half the digits.
    image = (w[:, None, None] * sqrtm(root @ covs @ root)).sum(0)
    assert relative(image, result.value_nn) < 1e-7


def test_commuting_covariances_average_their_roots() -> None:
    q = orthogonal(7, 0)
    values = torch.rand(3, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w = weights(3, 2, 1)
    result = barycenter(torch.stack([(q * v.sqrt()) @ q.mT for v in values]), w)
    expected = (q * (w[:, None] * values.sqrt()).sum(0).square()) @ q.mT
    assert relative(result.value_nn, expected) < 4 * rounding(7)  # two products for each side
    assert result.iterations == 0


def test_one_and_equal_covariances_are_their_own_barycenter() -> None:
    cov = covariances(1, 6)[0]
    for count in (1, 3):
        result = barycenter(sqrtm(cov).repeat(count, 1, 1), weights(*[1] * count))
        assert relative(result.value_nn, cov) < 4 * rounding(6)  # two products for the root, two for the barycenter
        assert result.converged


@pytest.mark.parametrize("smallest", [1e-3, 1e-6, 1e-9])
def test_a_single_covariance_keeps_its_smallest_eigenvalues(smallest: float) -> None:
    n = 12
    q, values = orthogonal(n, 0), torch.logspace(float(np.log10(smallest)), 0, n, dtype=torch.float64)
    result = barycenter(((q * values.sqrt()) @ q.mT)[None], weights(1))
    # The polar factor is orthogonal to rounding, so that XXᵀ = F polar polarᵀ Fᵀ is off by its own products alone, a
    # rounding each of the largest eigenvalue, which is 1: F and its spectrum here, F polar and XXᵀ there.
    error = (torch.linalg.eigvalsh(result.value_nn) - values).abs()
    for off, value in zip(error.tolist(), values.tolist(), strict=True):
        assert off / value <= 4 * rounding(n, condition=1 / value)
    assert result.iterations == 0
    assert result.residual <= 2 * rounding(n)


def test_value_and_residual_are_those_of_the_exact_map_where_the_budget_ends_early() -> None:
    n = 12
    roots, w = sqrtm(covariances(3, n, smallest=1e-8, seed=2)), weights(1, 2, 3)[:, None, None]
    x = (w * roots).sum(0)
    left, _, right = torch.linalg.svd(roots.mT @ x)
    image = (w * (roots @ (left @ right))).sum(0)
    result = barycenter(roots, w.flatten(), max_iters=0)
    assert result.iterations == 0
    # The same singular vectors here and there: a product and a sum may be rounded otherwise, nothing more.
    torch.testing.assert_close(result.value_nn, image @ image.mT, rtol=0, atol=2 * rounding(n))
    assert result.residual == pytest.approx(relative(image @ image.mT, x @ x.mT), abs=2 * rounding(n))


def test_turns_with_the_space_and_does_not_see_the_order() -> None:
    covs, w = covariances(3, 7, seed=4), weights(1, 2, 3)
    base = barycenter(sqrtm(covs), w).value_nn
    q = orthogonal(7, 5)
    assert relative(barycenter(sqrtm(q @ covs @ q.mT), w).value_nn, q @ base @ q.mT) < 1e-9
    order = torch.tensor([2, 0, 1])
    assert relative(barycenter(sqrtm(covs)[order], w[order]).value_nn, base) < 1e-9


def test_no_nearby_covariance_is_closer() -> None:
    covs, w = covariances(3, 6, seed=6), weights(1, 1, 1)

    def objective(b: Tensor) -> float:
        return float((w * bures_squared(covs, b)).sum())

    best = barycenter(sqrtm(covs), w).value_nn
    for seed in range(5):
        other = covariances(1, 6, seed=20 + seed)[0]
        assert objective((1 - 1e-3) * best + 1e-3 * other) > objective(best)
    assert objective(best) < objective((w[:, None, None] * covs).sum(0))


def test_an_exhausted_budget_is_reported() -> None:
    covs, w = covariances(3, 10, smallest=1e-6, seed=2), weights(1, 1, 1)
    result = barycenter(sqrtm(covs), w, max_iters=2)
    assert not result.converged
    assert result.iterations == 2
    assert len(result.residuals) == 3
    assert result.residual == result.residuals[-1] > 1e-10


def test_acceleration_needs_tens_of_steps_where_the_plain_fixed_point_is_far_off() -> None:
    covs, w = covariances(3, 12, smallest=1e-6, seed=3), weights(1, 1, 1)
    exact = barycenter(sqrtm(covs), w)
    released = barycenter_floored(covs.float(), w, floor=1e-6, max_iters=50, tol=1e-10)
    assert exact.converged
    assert exact.iterations < 100
    assert released.iterations == 50
    assert not released.converged
    assert relative(released.value_nn.double(), exact.value_nn) > 1e-3


def test_floored_form_finds_the_barycenter_of_well_conditioned_input() -> None:
    covs, w = covariances(3, 6, smallest=0.2, seed=7), weights(1, 1, 1)
    released = barycenter_floored(covs, w, floor=0.0, max_iters=200, tol=1e-11)
    assert released.converged
    np.testing.assert_allclose(released.value_nn, barycenter(sqrtm(covs), w).value_nn, rtol=0, atol=1e-9)


def test_floored_form_that_runs_away_ends_finite_and_unconverged() -> None:
    direction, other = torch.eye(3)[0], torch.tensor([0.6, 0.8, 0.0])
    covs = torch.stack([torch.outer(direction, direction), 1e10 * torch.outer(other, other)]) + 1e-6 * torch.eye(3)
    released = barycenter_floored(covs, weights(0.1, 1), floor=1e-6, max_iters=50, tol=1e-5)
    assert torch.isfinite(released.value_nn).all()
    assert not released.converged
