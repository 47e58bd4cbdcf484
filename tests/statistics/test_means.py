"""Standard errors against SciPy and by hand."""

import math

import pytest
import torch
from scipy.stats import norm, sem

from gcwm_viz.statistics.means import Z95, Z95_OF_FOUR, error_over_tasks, mean_error, paired_error, share_error
from tests.rounding import rounding


def test_intervals_span_what_they_say() -> None:
    assert pytest.approx(norm.isf(0.05 / 2), abs=1e-6) == Z95
    assert pytest.approx(norm.isf(0.05 / 4 / 2), abs=0.005) == Z95_OF_FOUR


def test_error_of_a_mean_is_scipys() -> None:
    values = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert mean_error(values) == pytest.approx(sem(values.numpy()), rel=rounding(50), abs=0)
    assert math.isnan(mean_error(values[:1]))


def test_error_of_a_share() -> None:
    assert share_error(0.2, 100) == pytest.approx(0.04)
    assert share_error(1.0, 7) == 0.0
    assert math.isnan(share_error(math.nan, 7))


def test_unchanged_answers_leave_half_a_changed_one_of_doubt() -> None:
    same = torch.zeros(8, dtype=torch.float64)
    assert paired_error(same, share=True) == 1 / 10
    assert paired_error(same, share=False) == 0.0
    assert math.isnan(paired_error(same[:1], share=True))
    changed = torch.tensor([1.0, -1.0, 0.0, 0.0], dtype=torch.float64)
    assert paired_error(changed, share=True) == mean_error(changed)


def test_errors_of_tasks_add_in_square() -> None:
    assert error_over_tasks([0.3, 0.4]) == pytest.approx(0.25)
    assert math.isnan(error_over_tasks([0.3, math.nan]))
    assert math.isnan(error_over_tasks([]))
