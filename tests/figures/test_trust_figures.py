"""Reliability and regret draw the benchmark's tables."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.figures import theme
from gcwm_viz.figures.regret import regret
from gcwm_viz.figures.reliability import reliability
from tests.factories_runs import NASTY

BINS = pd.DataFrame(
    {
        "needs": ["labels", "labels", "updates", "updates"],
        "forecast": [0.6, 0.1, 0.3, np.nan],
        "observed": [0.5, 0.0, 1 / 3, np.nan],
        "n": [10, 20, 30, 0],
    }
)
POLICIES = pd.DataFrame(
    {
        "policy": ["integrate all", "conflict threshold", "forecast, labels", "every subset on dev", NASTY],
        "regret": [0.10, 0.15, 0.02, 0.01, np.nan],
        "low": [0.08, 0.12, 0.01, np.nan, np.nan],
        "high": [0.12, 0.18, 0.03, np.nan, np.nan],
        "share": [1.0, 1.5, 0.2, 0.1, np.nan],
        "pools": 40,
        "cost": [0, 0, 3, -1, 0],
    }
)


def test_points_lie_at_forecast_and_observed_with_wilson_intervals() -> None:
    made = reliability(BINS)
    diagonal, updates, labels = made.data
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    assert updates.name == "from the updates alone"
    assert (list(labels.x), list(labels.y)) == ([0.1, 0.6], [0.0, 0.5])
    # Wilson's interval in closed form.
    for place, (share, n) in enumerate(((0.0, 20), (0.5, 10))):
        z = 1.959964
        centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = ((centre + sign * half) / (1 + z**2 / n) for sign in (-1, 1))
        assert labels.y[place] - labels.error_y.arrayminus[place] == pytest.approx(low, abs=1e-6)
        assert labels.y[place] + labels.error_y.array[place] == pytest.approx(high, abs=1e-6)
    assert labels.marker.size[0] > labels.marker.size[1]
    assert updates.marker.size[0] > labels.marker.size[0]
    assert "50 % of 10 updates" in labels.text[1]


def test_a_share_with_four_decimals_is_the_count_that_it_came_from() -> None:
    rounded = reliability(BINS.assign(observed=BINS["observed"].round(4)))
    assert rounded.data[1].error_y.array[0] == pytest.approx(reliability(BINS).data[1].error_y.array[0], abs=1e-4)


def test_no_bin_says_so() -> None:
    for empty in (BINS.iloc[:0], BINS.assign(n=0), BINS.assign(forecast=np.nan)):
        assert "no forecasts" in reliability(empty).layout.annotations[0].text


def test_policies_are_sorted_best_first_with_their_cost() -> None:
    made = regret(POLICIES)
    names = ["every subset on dev (all)", "forecast, labels (3)", "integrate all (0)", "conflict threshold (0)"]
    assert list(made.layout.yaxis.ticktext) == names
    assert made.layout.yaxis.range[0] > made.layout.yaxis.range[1]
    drawn = {trace.name: trace for trace in made.data}
    assert list(drawn["references"].y) == [2, 3]
    assert drawn["references"].marker.pattern.shape == "/"
    assert drawn["forecasts"].marker.pattern.shape == ""
    assert list(drawn["forecasts"].x) == [0.02]
    assert drawn["forecasts"].error_x.array[0] == pytest.approx(0.01)
    assert drawn["other ways"].error_x.array[0] == 0
    assert "20 % of that of integrating all" in drawn["forecasts"].text[0]
    (line,) = made.layout.shapes
    assert line.x0 == line.x1 == 0.10


def test_regret_without_a_reference_or_without_any() -> None:
    made = regret(POLICIES.assign(policy=["a", "b", NASTY, "d", "e"], share=np.nan))
    assert not made.layout.shapes
    assert "<b>" not in made.to_json()
    for empty in (POLICIES.iloc[:0], POLICIES.assign(regret=np.nan)):
        assert "too few plans" in regret(empty).layout.annotations[0].text


def test_faded_is_the_colour_at_an_opacity() -> None:
    assert theme.faded("#0072B2", 0.13) == "rgba(0,114,178,0.13)"
