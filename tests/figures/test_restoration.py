"""What came back: scores before, after and undone, shares with their reasons, and the search for the fewest cells."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.figures.restoration import restoration
from gcwm_viz.figures.restoration_search import restoration_search
from tests.factories_attribution import make_restoration

TABLE = make_restoration()


def test_bars_are_the_scores_with_their_errors_by_role() -> None:
    made = restoration(TABLE, metric="em", unit="exact match")
    assert [bar.name for bar in made.data] == ["before the step", "after the step", "cells undone"]
    assert [list(bar.y) for bar in made.data] == [[0.9] * 3, [0.7] * 3, [0.8] * 3]
    assert made.data[2].error_y.array[0] == pytest.approx(1.96 * 0.04, rel=1e-4)
    labels = made.layout.xaxis.ticktext
    assert labels[0] == "past<br>50 % undone"
    assert labels[1] == "capital (arrives)<br>10 % undone"
    assert labels[2].endswith("(later)<br>n/a")
    assert list(restoration(TABLE, metric="nll", unit="nats").data[1].y) == [0.6] * 3


def test_the_share_and_its_reason_are_on_hover() -> None:
    made = restoration(TABLE, metric="em", unit="exact match")
    assert made.data[0].customdata[0] == "past, before the step: 0.900<br>50 % of the change of its loss is undone"
    assert "too little for a share" in made.data[0].customdata[2]


def test_the_share_is_that_of_the_loss() -> None:
    table = TABLE.assign(recovered=TABLE["recovered"].where(TABLE["metric"] == "nll", 0.9))
    assert restoration(table, metric="em", unit="x").layout.xaxis.ticktext[0] == "past<br>50 % undone"


def test_more_than_all_and_less_than_nothing_are_shown_as_they_are() -> None:
    table = TABLE.assign(recovered=[-0.2, -0.2, 1.3, 1.3, 0.0, 0.0])
    ticks = restoration(table, metric="em", unit="x").layout.xaxis.ticktext
    assert [tick.split("<br>")[1] for tick in ticks] == ["0 % undone", "130 % undone", "-20 % undone"]


def test_missing_scores_are_counted_and_none_is_said() -> None:
    table = TABLE.copy()
    table.loc[0, "after"] = np.nan
    assert "1 not measured" in restoration(table, metric="em", unit="x").layout.title.text
    for nothing in (TABLE.iloc[:0], TABLE[TABLE["metric"] == "nll"]):
        assert "Nothing has been undone" in restoration(nothing, metric="em", unit="x").layout.annotations[0].text
    blank = TABLE.assign(before=np.nan, after=np.inf, restored=np.nan)
    assert "finite" in restoration(blank, metric="em", unit="x").layout.annotations[0].text


def test_names_are_literal_text() -> None:
    made = restoration(TABLE, metric="em", unit="x")
    assert "<b>" not in made.to_json()
    assert "<a" not in made.to_json()


STEPS = pd.DataFrame({"k": [1, 2, 4, 3], "recovered": [0.4, 0.7, 0.9, 0.85], "cost": [0.05, 0.1, 1.2, -0.02]})


def test_lines_are_the_shares_and_the_target_is_marked() -> None:
    made = restoration_search(STEPS, target=0.8, kept=2, recovered=0.81)
    recovered, cost, mark = made.data
    assert list(recovered.x) == [1, 2, 3, 4]
    assert list(recovered.y) == [0.4, 0.7, 0.85, 0.9]
    assert list(cost.y) == [0.05, 0.1, -0.02, 1.2]
    assert (mark.x[0], mark.y[0]) == (3, 0.85)
    assert made.layout.title.text == "2 matrices bring 81 % back (80 % asked for)"
    assert made.layout.shapes[0].y0 == 0.8
    assert made.layout.yaxis.range[0] < -0.02
    assert made.layout.yaxis.range[1] > 1.2
    one = restoration_search(STEPS, target=0.3, kept=1, recovered=0.4)
    assert one.layout.title.text == "1 matrix brings 40 % back (30 % asked for)"


def test_a_search_without_a_cost_or_without_anything() -> None:
    assert len(restoration_search(STEPS.assign(cost=np.nan), target=0.95, kept=4, recovered=0.9).data) == 1
    for nothing in (STEPS.assign(recovered=np.nan), STEPS.iloc[:0]):
        made = restoration_search(nothing, target=0.8, kept=0, recovered=np.nan)
        assert "No search has been run" in made.layout.annotations[0].text
