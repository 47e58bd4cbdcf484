"""Two runs' scores against each other."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.figures import score_difference
from tests.factories_runs import NASTY

DIFFERENCES = pd.DataFrame(
    {"difference": [0.1, np.nan, -0.2], "se": [0.02, 0.02, 0.05]}, index=pd.Index(["a", "b", NASTY], name="task")
)


def test_points_are_the_differences_with_their_intervals() -> None:
    made = score_difference.score_difference(DIFFERENCES, (-0.05, 0.03), "exact match")
    points = made.data[0]
    assert list(points.x) == [0.1, -0.2, -0.05]
    assert list(points.error_x.array) == pytest.approx([1.96 * 0.02, 1.96 * 0.05, 1.96 * 0.03], rel=1e-4)
    assert made.layout.yaxis.ticktext[-1] == "mean over tasks"
    assert not any("<b>" in name for name in made.layout.yaxis.ticktext)
    assert not score_difference.score_difference(DIFFERENCES.iloc[1:2], (np.nan, np.nan), "nats").data


def test_both_courses_are_drawn_with_the_first_solid() -> None:
    course = pd.DataFrame({"overall": [0.2, 0.5], "old_mean": [np.nan, 0.4], "overall_se": [0.1, 0.1]}, index=[0, 1])
    made = score_difference.two_courses({NASTY: course, "2": course + 0.1}, "exact match")
    assert [line.line.dash for line in made.data] == ["solid", "solid", "dash", "dash"]
    assert list(made.data[2].y) == pytest.approx([0.3, 0.6])
    assert not any("<b>" in line.name for line in made.data)
    assert not score_difference.two_courses({"1": course * np.nan, "2": course * np.nan}, "exact match").data
