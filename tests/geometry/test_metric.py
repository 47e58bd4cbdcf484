import pytest
import torch

from gcwm_viz.geometry.metric import Metric
from tests.factories import covariances, dense_metric, generator, orthogonal
from tests.rounding import rounding

LAM = 1e-3
BASIS = orthogonal(10, 0)[:, :4]
CORE = covariances(1, 4, smallest=1e-2)[0]
METRIC = Metric.of(BASIS, CORE, LAM)


def test_equals_the_dense_matrix_of_equation_15() -> None:
    outside = torch.eye(10, dtype=torch.float64) - BASIS @ BASIS.mT
    dense = BASIS @ CORE @ BASIS.mT + LAM * outside
    torch.testing.assert_close(dense_metric(METRIC), dense, rtol=0, atol=rounding(10))
    values, vectors = torch.linalg.eigh(dense)
    x = torch.randn(3, 10, generator=generator(1), dtype=torch.float64)
    for power in (-0.5, 0.5):
        expected = x @ (vectors * values**power) @ vectors.mT
        # Eigenvalues are exact to rounding of the largest, 1; their power follows by its derivative, at λ the steepest.
        bound = rounding(10, condition=0.5 * LAM ** (power - 1)) * float(x.abs().max())
        torch.testing.assert_close(METRIC.times_power(x, power), expected, rtol=0, atol=bound)
    assert METRIC.norm(x) == pytest.approx(float((x @ dense @ x.mT).trace() ** 0.5), rel=2 * rounding(10), abs=0)


def test_a_ridge_is_added_to_the_whole_space() -> None:
    ridged = Metric.of(BASIS, CORE, LAM, ridge=0.5)
    identity = torch.eye(10, dtype=torch.float64)
    torch.testing.assert_close(dense_metric(ridged), dense_metric(METRIC) + 0.5 * identity, rtol=0, atol=rounding(10))


def test_a_large_ridge_leaves_nothing_of_the_metric_but_a_scale() -> None:
    x = torch.randn(3, 10, generator=generator(4), dtype=torch.float64)
    flat = Metric.of(BASIS, CORE, LAM, ridge=1e9).times_power(x, -0.5)
    torch.testing.assert_close(flat, x / 1e9**0.5, rtol=1e-8, atol=0)


def test_rounding_below_the_shrinkage_does_not_reach_the_inverse_root() -> None:
    flat = torch.diag(torch.tensor([1e12, -1e-5, 0.0, 1e-6], dtype=torch.float64))
    metric = Metric.of(BASIS, flat, 1e-6)
    assert metric.values_u.min() == 1e-6
    assert torch.isfinite(metric.times_power(torch.ones(2, 10, dtype=torch.float64), -0.5)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recolouring_undoes_whitening(dtype: torch.dtype) -> None:
    x = torch.randn(5, 10, generator=generator(2), dtype=torch.float64).to(dtype)
    back = METRIC.times_power(METRIC.times_power(x, -0.5), 0.5)
    assert back.dtype == dtype
    # Whitening enlarges by λ^{-1/2}, and what is rounded there comes back.
    bound = rounding(10, dtype, condition=LAM**-0.5) * float(x.abs().max())
    torch.testing.assert_close(back, x, rtol=0, atol=bound)
