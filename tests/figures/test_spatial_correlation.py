"""Strips of rank correlations: every pair a point, the mean and its interval, and what is not defined."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.attribution.spatial import spatial_summary
from gcwm_viz.figures.spatial_correlation import spatial_correlation
from tests.factories_runs import NASTY

ROLES = ("earlier", "arrived", "later")


def pairs(signals: dict[str, float], steps: int = 6) -> pd.DataFrame:
    """Pairs of three tasks at every step, ρ about the value given a signal."""
    rng = np.random.default_rng(0)
    rows = [
        (signal, step - 1, step, NASTY, ROLES[k], centre + rng.uniform(-0.1, 0.1), 28, "")
        for signal, centre in signals.items()
        for step in range(1, steps + 1)
        for k in range(3)
    ]
    return pd.DataFrame(rows, columns=["signal", "start", "step", "task", "role", "rho", "cells", "reason"])


def test_points_are_the_pairs_and_the_diamond_is_their_mean() -> None:
    table = pairs({"sar": 0.3, "conflict": -0.4})
    summary = spatial_summary(table, cluster=["step"])
    made = spatial_correlation(table, summary, {"sar": "Overlap"})
    assert [trace.name for trace in made.data] == ["earlier task", "arriving task", "later task", "mean"]
    drawn = sorted(value for trace in made.data[:-1] for value in trace.x)
    assert drawn == pytest.approx(sorted(table["rho"]))
    mean = made.data[-1]
    assert list(mean.x) == pytest.approx(summary.sort_values("rho", ascending=False)["rho"])
    assert mean.x[0] + mean.error_x.array[0] == pytest.approx(summary["high"][0])
    assert made.layout.yaxis.ticktext[0].startswith("Overlap<br>")
    assert "18 pairs, 6 steps" in made.layout.yaxis.ticktext[1]
    for trace in made.data[:-1]:  # every point in the row of its signal
        assert all(abs(y - (0 if x > 0 else 1)) <= 0.2 for x, y in zip(trace.x, trace.y, strict=True))


def test_the_direction_is_in_words() -> None:
    table = pairs({"sar": 0.3})
    made = spatial_correlation(table, spatial_summary(table, cluster=["step"]), {})
    assert [annotation.text for annotation in made.layout.annotations] == [
        "← harm where the signal is low", "harm where it is high →"
    ]  # fmt: skip
    assert made.layout.shapes[0].x0 == 0


def test_a_signal_without_pairs_says_why_and_few_clusters_have_no_bar() -> None:
    table = pairs({"alpha": 0.2, "sar": 0.1}, steps=3)
    constant = table["signal"] == "alpha"
    table = table.assign(rho=table["rho"].mask(constant))
    table.loc[constant, "reason"] = f"{NASTY} is the same in all cells"
    made = spatial_correlation(table, spatial_summary(table, cluster=["step"]), {"alpha": NASTY}, cluster="runs")
    assert made.data[-1].error_x.array[0] == 0
    assert "an interval takes 5 clusters, found 3" in made.data[-1].text[0]
    assert "is the same in all cells" in made.layout.annotations[-1].text
    assert made.layout.annotations[-1].y == 1
    assert "0 pairs, 0 runs" in made.layout.yaxis.ticktext[1]
    assert "<b>" not in made.to_json()


def test_nothing_to_compare_is_said() -> None:
    empty = pairs({}).iloc[:0]
    made = spatial_correlation(empty, spatial_summary(empty, cluster=["step"]), {})
    assert "No signal can be compared" in made.layout.annotations[0].text
