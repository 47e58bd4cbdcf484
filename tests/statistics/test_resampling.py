"""Bootstrap and sign flips against SciPy and by hand."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from gcwm_viz.statistics.resampling import cluster_sums, flip_p, mean_interval, multiplicities, percentile_interval


def test_sums_and_numbers_of_clusters() -> None:
    sums, counts = cluster_sums(np.array([1.0, 2.0, 4.0]), np.array(["b", "a", "b"]))
    assert (sums.tolist(), counts.tolist()) == ([2.0, 5.0], [1.0, 2.0])


def test_every_resample_draws_as_many_clusters_as_there_are() -> None:
    drawn = multiplicities(5, 4000, np.random.default_rng(0))
    assert drawn.shape == (5, 4000)
    assert (drawn.sum(0) == 5).all()
    assert drawn.mean(1) == pytest.approx([1.0] * 5, abs=0.06)  # four standard errors


def test_undefined_resamples_are_left_out() -> None:
    assert percentile_interval(np.append(np.arange(101.0), np.nan)) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()


def test_interval_of_a_mean_agrees_with_theory() -> None:
    values = np.random.default_rng(1).normal(size=80)
    low, high = mean_interval(values, np.arange(80), 4000, 0)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 80**0.5, rel=0.1)
    assert mean_interval(np.repeat(values, 3), np.repeat(np.arange(80), 3), 4000, 0) == pytest.approx((low, high))
    assert np.isnan(mean_interval(values, np.zeros(80), 100, 0)).all()


@pytest.mark.parametrize("n", [8, 16])  # all flips, and random ones
def test_flips_are_scipys(n: int) -> None:
    changes = np.random.default_rng(2).normal(0.4, 1.0, n)
    exact = permutation_test((changes,), np.sum, permutation_type="samples", n_resamples=2**n).pvalue
    assert flip_p(changes, np.arange(n), 20000, 0) == pytest.approx(exact, abs=1e-12 if n == 8 else 0.015)
