"""Scores between two states: a panel a path, tasks told apart by their role, gaps, and a logarithmic loss."""

import numpy as np

from gcwm_viz.figures.interpolation import interpolation
from tests.factories_attribution import ORDER, TASKS, make_interpolation
from tests.factories_runs import NASTY

ROWS = make_interpolation(step=2)


def test_lines_are_the_scores_of_each_path() -> None:
    made = interpolation(ROWS.sample(frac=1, random_state=1), order=ORDER, unit="exact match")
    assert len(made.data) == 2 * len(TASKS)
    for line in made.data:
        assert np.allclose(line.x, np.linspace(0, 1.5, 7))
        assert np.allclose(line.y, 0.4 + 0.2 * np.array(line.x))
        assert line.customdata[0] == "± 0.0588 (95 %)"
    assert [a.text for a in made.layout.annotations] == ["base → step 2", "step 1 → 2"]
    assert {shape.x0 for shape in made.layout.shapes} == {0, 1}
    assert made.layout.yaxis.title.text == "exact match, higher = better"
    assert [line.showlegend for line in made.data] == [True] * len(TASKS) + [False] * len(TASKS)


def test_the_arriving_task_is_bold_and_later_ones_are_dotted() -> None:
    past, capital, third, maths = interpolation(ROWS, order=ORDER, unit="x").data[: len(TASKS)]
    assert capital.line.width > past.line.width > third.line.width
    assert (past.line.dash, capital.line.dash, third.line.dash, maths.line.dash) == ("solid", "solid", "dot", "dashdot")


def test_a_run_of_one_step_has_one_panel() -> None:
    one = ROWS[ROWS["start"] == 1].assign(start=0, step=1)
    made = interpolation(one, order=ORDER, unit="x")
    assert [a.text for a in made.layout.annotations] == ["base → step 1"]


def test_losses_far_apart_have_a_logarithmic_axis_and_zeros_do_not_vanish() -> None:
    loss = make_interpolation(metric="nll")
    assert interpolation(loss, order=ORDER, unit="nats", loss=True).layout.yaxis.type is None
    loss.loc[loss["task"] == "maths", "value"] = 30.0
    made = interpolation(loss, order=ORDER, unit="nats", loss=True)
    assert made.layout.yaxis.type == "log"
    assert "logarithmic" in made.layout.title.text
    assert made.layout.yaxis.title.text == "nats, lower = better"
    loss.loc[0, "value"] = 0.0
    assert interpolation(loss, order=ORDER, unit="nats", loss=True).layout.yaxis.type is None


def test_not_finite_values_are_gaps_and_none_is_said() -> None:
    rows = ROWS.copy()
    rows.loc[rows["task"] == "past", "value"] = np.inf
    made = interpolation(rows, order=ORDER, unit="x")
    assert np.isnan(np.array(made.data[0].y)).all()
    for nothing in (rows.assign(value=np.nan), rows.iloc[:0]):
        assert "Nothing has been scored" in interpolation(nothing, order=ORDER, unit="x").layout.annotations[0].text


def test_names_are_literal_text() -> None:
    made = interpolation(ROWS, order=ORDER, unit="x")
    text = made.to_json().replace("0<br>start", "").replace("1<br>end", "")
    assert NASTY not in text
    assert "<b" not in text
    assert (
        "%{y}"
        not in interpolation(ROWS.replace({"task": {"maths": "%{y}"}}), order=ORDER, unit="x")
        .data[3]
        .hovertemplate.split(":")[0]
    )
