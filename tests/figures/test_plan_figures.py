"""Plans, orders and levels draw what was expected and measured of them, and leave out what is not known."""

import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from gcwm_viz.figures.expected_levels import expected_levels
from gcwm_viz.figures.forecast_measured import KINDS, forecast_measured
from gcwm_viz.figures.plan_curve import plan_curve
from gcwm_viz.statistics.means import Z95
from tests.factories_runs import NASTY

PLANS = pd.DataFrame(
    {
        "plan": ["past", "past, index", NASTY, "all × 0.5"],
        "kind": ["experts", "steps", "everything but one", "something new"],
        "forecast": [0.1, 0.2, 0.3, 0.25],
        "low": [0.0, 0.12, 0.2, np.nan],
        "high": [0.2, 0.28, 0.4, np.nan],
        "measured": [0.12, 0.15, 0.33, 0.2],
        "se": [0.02, 0.02, 0.02, np.nan],
    }
)


def named(made: go.Figure, name: str) -> Any:
    (found,) = [trace for trace in made.data if trace.name == name]
    return found


def test_a_plan_lies_at_forecast_and_measured_with_both_bars() -> None:
    made = forecast_measured(PLANS)
    steps = named(made, "steps")
    assert (list(steps.x), list(steps.y)) == ([0.2], [0.15])
    assert steps.error_x.array[0] == pytest.approx(0.08)
    assert steps.error_x.arrayminus[0] == pytest.approx(0.08)
    assert steps.error_y.array[0] == pytest.approx(Z95 * 0.02)
    assert "past, index" in steps.text[0]
    assert "forecast +0.200 [+0.120, +0.280]" in steps.text[0]
    assert f"measured +0.150 ± {Z95 * 0.02:.4f}" in steps.text[0]


def test_the_diagonal_spans_both_axes_which_are_alike_and_hold_all_bars() -> None:
    made = forecast_measured(PLANS)
    diagonal = named(made, "as forecast")
    assert list(diagonal.x) == list(diagonal.y) == list(made.layout.xaxis.range) == list(made.layout.yaxis.range)
    low, high = diagonal.x
    assert low < 0
    assert high > 0.4


def test_every_kind_has_its_colour_whichever_others_there_are() -> None:
    colours = [named(forecast_measured(PLANS.assign(kind=kind)), kind).marker.color for kind in KINDS]
    assert len(set(colours)) == len(KINDS)
    assert named(forecast_measured(PLANS), "steps").marker.color == colours[KINDS.index("steps")]
    assert list(named(forecast_measured(PLANS), "others").x) == [0.25]


def test_plans_without_one_of_the_two_are_counted() -> None:
    holes = PLANS.assign(measured=[np.nan, 0.15, np.inf, 0.2])
    made = forecast_measured(holes)
    assert sum(len(trace.x) for trace in made.data if trace.mode == "markers") == 2
    assert "2 of 4 plans" in made.layout.title.text
    assert "nan" not in named(made, "others").text[0]
    assert not any(named(made, "others").error_x.array)
    for empty in (PLANS.iloc[:0], PLANS.assign(forecast=np.nan)):
        assert "No plan has both" in forecast_measured(empty).layout.annotations[0].text
    assert "<b>" not in forecast_measured(PLANS).to_json()


def order(updates: list[str], expected: list[float], value: list[float]) -> pd.DataFrame:
    rows = pd.DataFrame({"size": range(1, len(updates) + 1), "update": updates, "expected": expected, "value": value})
    return rows.assign(low=rows["expected"] - 0.1, high=rows["expected"] + 0.1, se=0.02)


ORDERS = {
    "as in this run": order(["past", NASTY, "index"], [0.2, 0.3, 0.25], [0.21, np.nan, 0.26]),
    "best expected first": order(["index", "past", NASTY], [0.3, 0.35, 0.25], [np.nan] * 3),
}


def test_an_order_is_a_line_in_a_band_with_marks_where_it_was_measured() -> None:
    made = plan_curve(ORDERS)
    line = named(made, "as in this run")
    assert (list(line.x), list(line.y)) == ([1, 2, 3], [0.2, 0.3, 0.25])
    marks = named(made, "as in this run, measured")
    assert (list(marks.x), list(marks.y)) == ([1, 3], [0.21, 0.26])
    assert list(marks.error_y.array) == pytest.approx([Z95 * 0.02] * 2)
    assert marks.marker.color == line.line.color
    assert [words for words, _ in marks.customdata] == ["1 taken, + past", "3 taken, + index"]
    bands = [trace for trace in made.data if trace.fill == "toself"]
    assert list(bands[0].y) == pytest.approx([0.3, 0.4, 0.35, 0.15, 0.2, 0.1])
    assert [trace.name for trace in made.data if trace.name] == [
        "as in this run", "as in this run, measured", "best expected first",
    ]  # fmt: skip
    assert "<b>" not in made.to_json()


def test_the_axis_names_what_each_order_adds() -> None:
    first = re.sub("<span[^>]*>|</span>", "", plan_curve(ORDERS).layout.xaxis.ticktext[0])
    assert first == "1<br>● past<br>■ index"
    many = {f"order {k}": ORDERS["as in this run"] for k in range(4)}
    assert plan_curve(many).layout.xaxis.ticktext is None
    with_base = pd.concat([order([""], [0.1], [0.1]).assign(size=0), ORDERS["as in this run"]])
    made = plan_curve({"a": with_base})
    assert made.layout.xaxis.ticktext[0] == "0"
    assert list(named(made, "a").x) == [0, 1, 2, 3]


def test_a_gap_splits_the_band() -> None:
    holes = order(["a", "b", "c", "d", "e"], [0.1, 0.2, np.inf, 0.3, 0.4], [np.nan] * 5)
    made = plan_curve({"a": holes})
    assert [list(trace.x) for trace in made.data if trace.fill == "toself"] == [[1, 2, 2, 1], [4, 5, 5, 4]]
    assert np.isnan(named(made, "a").y[2])


def test_no_order_says_so() -> None:
    for empty in ({}, {"a": ORDERS["as in this run"].assign(expected=np.nan, value=np.nan)}):
        assert "Nothing is expected" in plan_curve(empty).layout.annotations[0].text


LEVELS = pd.DataFrame(
    {
        "update": ["past", NASTY, "index"],
        "whole": [0.5, 0.4, np.nan],
        "less": [0.45, 0.5, 0.4],
        "without": [0.4, 0.45, 0.6],
        "choice": ["integrate", "less", "hold"],
    }
)


def test_the_best_level_of_every_update_is_ringed_with_the_verdict_beside_it() -> None:
    made = expected_levels(LEVELS)
    assert list(named(made, "best").x) == [0.5, 0.5, 0.6]
    for name, column in (("whole", "whole"), ("a third", "less"), ("without", "without")):
        assert list(named(made, name).x) == pytest.approx(LEVELS[column].to_list(), nan_ok=True)
    assert [note.text for note in made.layout.annotations] == ["integrate", "with less", "hold"]
    assert [note.y for note in made.layout.annotations] == list(made.layout.yaxis.tickvals) == [0, 1, 2]
    span = named(made, "span")
    assert list(span.x)[:6] == [0.4, 0.5, None, 0.4, 0.5, None]
    assert made.layout.yaxis.range[0] > made.layout.yaxis.range[1]
    assert "<b>" not in made.to_json()


def test_twenty_updates_stay_on_one_screen() -> None:
    assert expected_levels(pd.concat([LEVELS] * 7, ignore_index=True)).layout.height < 650


def test_levels_of_nothing_say_so() -> None:
    for empty in (LEVELS.iloc[:0], LEVELS.assign(whole=np.nan, less=np.nan, without=np.nan)):
        assert "no forecast here" in expected_levels(empty).layout.annotations[0].text
