"""Bars by task and lines of what is kept: the numbers of their tables, names as text, words where nothing is known."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.figures.retained import retained
from gcwm_viz.figures.task_scores import task_scores
from tests.factories_runs import NASTY


def test_bars_are_the_scores_with_their_errors() -> None:
    base = pd.Series({"a": 0.1, NASTY: np.nan})
    error = pd.Series({"a": 0.02, NASTY: np.nan})
    made = task_scores({"base": (base, error), "expert": (pd.Series({"a": 0.9, NASTY: 0.8}), None)}, unit="exact match")
    assert [bar.name for bar in made.data] == ["base", "expert"]
    assert made.data[0].y[0] == 0.1
    assert made.data[0].error_y.array[0] == pytest.approx(1.96 * 0.02, rel=1e-4)
    assert list(made.data[1].y) == [0.9, 0.8]
    assert "1 not measured" in made.layout.title.text
    assert "<b>" not in made.to_json()
    assert made.layout.yaxis.title.text == "exact match"


def test_nothing_scored_is_said() -> None:
    empty = pd.Series(dtype=float)
    assert "not scored" in task_scores({"base": (empty, None)}, unit="x").layout.annotations[0].text
    assert "not scored" in task_scores({"base": (pd.Series({"a": np.nan}), None)}, unit="x").layout.annotations[0].text


def test_lines_leave_out_steps_without_an_earlier_task() -> None:
    course = pd.Series({0: np.nan, 1: np.nan, 2: 0.8, 3: 0.6})
    made = retained({NASTY: course, "x": course}, {NASTY: course / 10}, unit="exact match")
    assert list(made.data[0].x) == [2, 3]
    assert list(made.data[0].y) == [0.8, 0.6]
    assert made.data[0].error_y.array == pytest.approx([1.96 * 0.08, 1.96 * 0.06], rel=1e-3)
    assert made.data[1].error_y.array is None
    assert "<b>" not in made.to_json()
    assert "No step" in retained({"x": course.iloc[:2]}, {}, unit="x").layout.annotations[0].text
