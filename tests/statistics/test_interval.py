"""Intervals and where they lie against a threshold."""

import math

import pytest

from gcwm_viz.statistics.interval import Interval, from_error


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
