"""Intervals and where they lie against a threshold."""

import math

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.statistics.interval import Interval, from_error, mean_over_matrices


@pytest.mark.parametrize(("threshold", "place"), [(0.1, "above"), (0.2, "covers"), (0.3, "covers"), (0.41, "below")])
def test_place_against_a_threshold(threshold: float, place: str) -> None:
    assert Interval(0.3, 0.2, 0.4).against(threshold) == place


def test_without_an_interval_nothing_is_told_apart() -> None:
    assert Interval(0.3).against(0.9) == "covers"
    assert Interval().against(0.9) == "unknown"
    assert from_error(math.nan, 0.1).against(0.0) == "unknown"
    assert from_error(0.5, math.nan).against(0.0) == "covers"
    assert "no standard error" in from_error(0.5, math.nan).reason


def test_error_makes_a_normal_interval() -> None:
    found = from_error(0.5, 0.1)
    assert (found.low, found.high) == pytest.approx((0.304, 0.696), abs=1e-3)
    assert (found.high - found.low) / 2 == pytest.approx(0.196, abs=1e-3)


def test_bootstrap_over_layers_agrees_with_theory() -> None:
    rng = np.random.default_rng(3)
    layers = np.repeat(np.arange(60), 7)
    level = rng.normal(0.4, 0.1, 60)
    values = pd.Series(level[layers])
    found = mean_over_matrices(values, pd.Series(layers))
    assert found.value == pytest.approx(values.mean())
    # One value a layer, seven times: the error is that of 60 values, not of 420.
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * level.std(ddof=1) / 60**0.5, rel=0.1)
    assert found == mean_over_matrices(values, pd.Series(layers))


def test_undefined_matrices_are_left_out() -> None:
    found = mean_over_matrices(pd.Series([0.2, np.nan, 0.4]), pd.Series([0, 1, 2]))
    assert found.value == pytest.approx(0.3)
    assert (found.low, found.high) == pytest.approx((0.2, 0.4))
    single = mean_over_matrices(pd.Series([0.2, 0.4]), pd.Series([5, 5]))
    assert single.value == pytest.approx(0.3)
    assert math.isnan(single.low)
    assert "one layer" in single.reason
    assert mean_over_matrices(pd.Series([np.nan]), pd.Series([0])).reason == "not defined in any matrix"
