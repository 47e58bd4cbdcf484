"""Harm against gain: a point a cell in the order of the grid, its selection, its corners."""

import numpy as np
import plotly.graph_objects as go

from gcwm_viz.figures.harm_gain import harm_and_gain, harm_gain
from gcwm_viz.figures.layer_grid import grid_axes
from tests.factories_attribution import make_attribution, one_path
from tests.factories_runs import FAMILIES, NASTY

ROWS = one_path(make_attribution(outside=0.7), 3)
AXES = grid_axes(ROWS[ROWS["layer"] >= 0])
CELLS = harm_and_gain(ROWS, arrived=NASTY, earlier=["past", "capital"])


def words(made: go.Figure) -> list[str]:
    return [annotation.text for annotation in made.layout.annotations]


def test_harm_sums_the_earlier_tasks_and_gain_is_the_fall_of_the_arriving_one() -> None:
    assert len(CELLS) == 28
    for cell in CELLS.to_dict("records"):
        own = ROWS[(ROWS["layer"] == cell["layer"]) & (ROWS["family"] == cell["family"])].set_index("task")["value"]
        assert np.isclose(cell["harm"], own["past"] + own["capital"])
        assert cell["gain"] == -own[NASTY]


def test_a_point_a_cell_in_the_order_of_the_grid() -> None:
    points = harm_gain(CELLS.sample(frac=1, random_state=1), arrived=NASTY, axes=AXES).data[-1]
    at = CELLS.set_index(["layer", "family"])
    for index in range(28):
        layer, family = AXES.cell(index)
        assert (points.x[index], points.y[index]) == tuple(at.loc[(layer, family), ["harm", "gain"]])
        assert points.text[index].startswith(f"layer {layer} · {family}<br>harm ")
    assert len(set(points.marker.color)) == len(FAMILIES)


def test_only_the_last_trace_has_points_that_can_be_selected() -> None:
    made = harm_gain(CELLS, arrived=NASTY, axes=AXES, selected=[(0, "v_proj")])
    assert all(trace.mode == "lines" or trace.x == (None,) for trace in made.data[:-1])
    assert [trace.name for trace in made.data] == [
        "gain = harm",
        "q",
        "k",
        "v",
        "o",
        "gate",
        "up",
        "down",
        "selected",
        "cells",
    ]


def test_selected_cells_are_ringed_and_named() -> None:
    made = harm_gain(CELLS, arrived=NASTY, axes=AXES, selected=[(1, "k_proj"), (0, "v_proj"), (9, "k_proj")])
    assert set(np.flatnonzero(np.array(made.data[-1].marker.size) > 9)) == {2, 8}
    assert {"1 k", "0 v"} < set(words(made))
    everything = [AXES.cell(index) for index in range(28)]
    many = harm_gain(CELLS, arrived=NASTY, axes=AXES, selected=everything)
    assert len(words(many)) == 4 + 8  # the corners, and no more names than can be read


def test_without_a_selection_the_worst_three_are_named() -> None:
    cells = CELLS.assign(gain=CELLS["gain"] / 100)
    worst = (cells["harm"] - cells["gain"]).nlargest(3).index
    named = {f"{CELLS['layer'][i]} {CELLS['family'][i].removesuffix('_proj')}" for i in worst}
    assert named == set(words(harm_gain(cells, arrived=NASTY, axes=AXES))[4:])
    assert (
        len(words(harm_gain(CELLS.assign(harm=-1.0), arrived=NASTY, axes=AXES))) == 4
    )  # none costs more than it brings


def test_all_corners_are_on_the_chart_whatever_the_signs() -> None:
    for cells in (CELLS, CELLS.assign(harm=1.0, gain=-1.0), CELLS.assign(harm=0.0, gain=0.0)):
        made = harm_gain(cells, arrived="x", axes=AXES)
        assert any("candidates" in text for text in words(made))
        for axis in (made.layout.xaxis, made.layout.yaxis):
            assert axis.range[0] < 0 < axis.range[1]


def test_undefined_cells_keep_their_place_and_are_counted() -> None:
    cells = CELLS.copy()
    cells.loc[3, "gain"] = np.inf
    cells = cells.drop(index=5)
    made = harm_gain(cells, arrived=NASTY, axes=AXES)
    assert len(made.data[-1].x) == 28
    assert np.flatnonzero(np.isnan(np.array(made.data[-1].x, dtype=float))).tolist() == [3, 5]
    assert "2 of 28 cells undefined" in made.layout.title.text


def test_first_step_and_unknown_tasks_say_what_is_missing() -> None:
    for cells in (
        harm_and_gain(ROWS, arrived=NASTY, earlier=[]),
        harm_and_gain(ROWS, arrived="none", earlier=["past"]),
        harm_and_gain(ROWS.iloc[:0], arrived="none", earlier=["past"]),
    ):
        assert "takes a task that arrives" in words(harm_gain(cells, arrived=NASTY, axes=AXES))[0]


def test_names_are_literal_text() -> None:
    rows = ROWS.replace({"family": {"q_proj": NASTY}})
    cells = harm_and_gain(rows, arrived=NASTY, earlier=["past"])
    made = harm_gain(cells, arrived=NASTY, axes=grid_axes(cells), selected=[(0, NASTY)])
    assert "<b>" not in made.to_json()
    assert "<a" not in made.to_json()
