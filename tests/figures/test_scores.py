"""Pair matrix, score heatmap, retention, forgetting, representation and the run's trend."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.figures import forgetting, pair_matrix, representation, retention, score_heatmap, step_trend, strength
from gcwm_viz.probes.scores import downstream, forgetting_matrix, score_matrix
from tests.factories_runs import TASKS, make_tables

TABLES = make_tables("normal")
R: Any = score_matrix(TABLES["scores"], "test", "em")
ERRORS = score_matrix(TABLES["scores"], "test", "em", "se")
OWN = pd.Series(0.9, index=list(TASKS))


def test_pair_values_average_and_mirror() -> None:
    pairs = TABLES["pairs"]
    pairs = pairs[pairs["step"] == 3]
    square: Any = pair_matrix.pair_values(pairs, list(TASKS))
    assert list(square.index) == ["past", "capital", "index", "state"]
    both = pairs[(pairs["kind"] == "active") & (pairs["i"] == "past") & (pairs["j"] == "index")]
    assert square.loc["past", "index"] == pytest.approx(both["conflict"].mean())
    assert square.loc["index", "past"] == square.loc["past", "index"]
    assert np.isnan(np.diag(square)).all()


def test_overlap_is_read_from_row_to_column() -> None:
    pairs = TABLES["pairs"]
    pairs = pairs[(pairs["step"] == 3) & (pairs["kind"] != "incoming")]
    square: Any = pair_matrix.pair_values(pairs, list(TASKS), "sar")
    there = pairs[(pairs["i"] == "past") & (pairs["j"] == "index")]
    assert square.loc["past", "index"] == pytest.approx(there["sar_ij"].mean())
    assert square.loc["index", "past"] == pytest.approx(there["sar_ji"].mean())


def test_pair_matrix_of_one_update_says_what_is_missing() -> None:
    made = pair_matrix.pair_matrix(pair_matrix.pair_values(TABLES["pairs"].iloc[:0], list(TASKS)))
    assert "two updates" in made.layout.annotations[0].text


def test_score_heatmap_shows_base_steps_and_expert() -> None:
    made = score_heatmap.score_heatmap(R, ERRORS, OWN, order=TASKS)
    assert list(made.layout.yaxis.ticktext) == ["base", *(f"step {step}" for step in range(1, 7)), "own expert"]
    numbers = made.data[-1]
    assert numbers.text[len(TASKS)] == f"{R.loc[1, 'past']:#.3g}"
    assert "±" in numbers.hovertext[0]
    assert len(made.layout.shapes) == 2 * len(TASKS)


def test_a_frame_stands_where_the_update_of_the_task_arrives() -> None:
    """Probes in another order than the updates, a probe without an update and an update without a probe."""
    few = R[["index", "past", "eval"]].rename(columns={"eval": "general"})
    made = score_heatmap.score_heatmap(few, order=["capital", "past", "index"])
    centres = {((shape.x0 + shape.x1) / 2, (shape.y0 + shape.y1) / 2) for shape in made.layout.shapes}
    assert centres == {(0, 3), (1, 2)}  # column of index at step 3, of past at step 2


def test_every_bar_spans_95_percent() -> None:
    se: Any = ERRORS.loc[1, "past"]
    line = next(
        t for t in retention.retention(R, ERRORS, OWN, order=list(TASKS), unit="em").data if t.mode == "lines+markers"
    )
    trend = step_trend.step_trend(TABLES["steps"], downstream(R, TASKS, errors=ERRORS))
    rows = TABLES["representation"].query("dataset == 'first letter'")
    probe = representation.representation(rows).data[0]
    assert line.error_y.array[1] == pytest.approx(1.959964 * se)
    assert trend.data[0].error_y.array[0] == pytest.approx(1.959964 * 0.02 / 6**0.5)
    assert probe.error_y.array[0] == pytest.approx(1.959964 * 0.02)
    hover = score_heatmap.score_heatmap(R, ERRORS, order=TASKS).data[-1].hovertext[len(TASKS)]
    assert f"± {1.959964 * se:#.3g} (95 %)" in hover


def test_score_heatmap_of_losses_and_of_nothing() -> None:
    losses = score_matrix(TABLES["scores"], "test", "nll")
    heat = next(
        trace for trace in score_heatmap.score_heatmap(losses, order=TASKS, higher_is_better=False).data if trace.zmax
    )
    assert heat.reversescale
    assert "not scored" in score_heatmap.score_heatmap(R.iloc[:0], order=TASKS).layout.annotations[0].text


def test_unmeasured_scores_are_marked() -> None:
    holes = score_matrix(make_tables("nan")["scores"], "test", "em")
    made = score_heatmap.score_heatmap(holes, order=TASKS)
    assert any(trace.name == "undefined" for trace in made.data)
    assert "not measured" in made.data[-1].hovertext[2 * holes.shape[1]]


def test_retention_has_a_panel_a_task() -> None:
    made = retention.retention(R, ERRORS, OWN, order=list(TASKS), unit="exact match")
    lines = [trace for trace in made.data if trace.mode == "lines+markers"]
    assert len(lines) == len(TASKS)
    assert np.allclose(lines[2].y, R["index"])
    assert np.allclose(lines[2].error_y.array, 1.959964 * ERRORS["index"])
    diamonds = [trace for trace in made.data if trace.mode == "markers"]
    assert [trace.x[0] for trace in diamonds] == [1, 2, 3, 4, 5, 6]
    assert len(made.layout.shapes) == 2 * len(TASKS)


def test_forgetting_bars_and_course() -> None:
    lost: Any = forgetting_matrix(R)
    made = forgetting.forgetting_by_task(lost.loc[6])
    assert np.allclose(made.data[0].x, lost.loc[6])
    course = forgetting.forgetting_course(downstream(R, TASKS))
    assert {trace.name for trace in course.data} == {
        "forgetting", "backward transfer", "plasticity gap", "change in this step",
    }  # fmt: skip
    assert not forgetting.forgetting_by_task(lost.loc[0]).data
    assert not forgetting.forgetting_course(downstream(R.iloc[:2], TASKS)).data


def test_representation_lines_and_chance() -> None:
    rows = TABLES["representation"]
    rows = rows[rows["dataset"] == "first letter"]
    made = representation.representation(rows, step=3, expert="index")
    assert [trace.name for trace in made.data] == ["base", "after step 3", "expert index"]
    assert made.layout.shapes[0].y0 == 0.25
    assert made.layout.xaxis.dtick == 1
    assert not representation.representation(rows.iloc[:0]).data


def test_trend_with_and_without_scores() -> None:
    scored = step_trend.step_trend(TABLES["steps"], downstream(R, TASKS, errors=ERRORS), chosen_step=2)
    assert sum(trace.name.startswith("score") for trace in scored.data) == 3
    assert scored.layout.xaxis.ticktext[0] == "base"
    bare = step_trend.step_trend(TABLES["steps"])
    assert {trace.name for trace in bare.data} == {"Active conflict", "State conflict", "Incoming conflict"}
    assert not step_trend.step_trend(TABLES["steps"].iloc[:0]).data


def test_strengths_are_drawn_by_task_and_their_mean_with_its_interval() -> None:
    values = pd.DataFrame({"past": [0.2, 0.4], "<b>odd": [0.4, 0.8]}, index=pd.Index([0.5, 1.0], name="strength"))
    errors = pd.DataFrame({"past": [0.03, 0.03], "<b>odd": [0.04, 0.04]}, index=values.index)
    made = strength.strength(values, errors, "exact match")
    assert [trace.name for trace in made.data] == ["past", "&lt;b&gt;odd", "mean over tasks"]
    mean = made.data[-1]
    assert list(mean.y) == pytest.approx([0.3, 0.6])
    assert list(mean.error_y.array) == pytest.approx([1.959964 * 0.05 / 2] * 2)
    assert made.layout.shapes[0].x0 == 1
    assert (
        "No other strength was tried"
        in strength.strength(values.iloc[:0], errors.iloc[:0], "x").layout.annotations[0].text
    )
