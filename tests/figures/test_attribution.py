"""Maps of the attribution: values in their cells, sums over tasks, what lies outside, several outlines, many panels."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from gcwm_viz.figures.attribution_map import attribution_map, cell_values, path_name
from gcwm_viz.figures.attribution_multiples import attribution_multiples
from gcwm_viz.figures.layer_grid import grid_axes, layer_grid, pivot
from gcwm_viz.figures.theme import num
from gcwm_viz.signals.catalogue import ACTIVE
from tests.factories_attribution import ORDER, TASKS, make_attribution, one_path
from tests.factories_runs import FAMILIES, NASTY, make_tables

TABLE = make_attribution()
AXES = grid_axes(TABLE)


def maps(made: go.Figure) -> list[Any]:
    return [trace for trace in made.data if trace.type == "heatmap" and trace.name != "undefined"]


def texts(made: go.Figure) -> list[str]:
    return [annotation.text for annotation in made.layout.annotations]


def test_every_value_is_in_its_cell_and_the_points_are_the_cells() -> None:
    rows = one_path(TABLE, 2, "past")
    made = attribution_map(rows, label="past", axes=AXES)
    z = np.array(maps(made)[0].z)
    for row in rows.to_dict("records"):
        assert z[row["layer"], FAMILIES.index(row["family"])] == row["value"]
    assert maps(made)[0].zmin == -maps(made)[0].zmax
    points = made.data[-1]
    assert (points.y[8], points.x[8]) == (1, 1)
    assert "layer 1 · k_proj" in points.text[8]
    assert points.mode == "markers"
    assert made.layout.title.text == "past · step 1 → 2"


def test_a_sum_adds_the_tasks() -> None:
    rows = one_path(TABLE, 2, "past", "maths")
    z = np.array(maps(attribution_map(rows, label="two tasks"))[0].z)
    cell = rows[(rows["layer"] == 3) & (rows["family"] == "o_proj")]
    assert z[3, 3] == pytest.approx(cell["value"].sum())
    said = attribution_map(rows, label="two tasks").layout.title.subtitle.text
    change = rows.groupby("task")["change"].first().sum()
    assert said == f"loss {num(change, signed=True)} nats over 2 tasks, residual ≤ 2.00e-04"


def test_change_residual_and_outside_are_stated() -> None:
    rows = one_path(make_attribution(outside=0.0123), 3, "past").assign(change=0.5, residual=0.04, converged=False)
    made = attribution_map(rows, label="past")
    assert made.layout.title.subtitle.text == (
        "loss +0.500 nats, residual 0.0400 (over the tolerance)<br>outside the matrices +0.0123 nats"
    )
    assert np.array(maps(made)[0].z).shape == (4, 7)
    assert "outside" not in attribution_map(one_path(TABLE, 3, "past"), label="past").layout.title.subtitle.text


def test_a_sum_with_an_undefined_summand_is_undefined() -> None:
    rows = one_path(TABLE, 2, "past", "maths").copy()
    rows.loc[rows.index[0], "value"] = np.inf
    table = cell_values(rows)
    assert table["value"].isna().sum() == 1
    assert table.loc[table["value"].isna(), "reason"].tolist() == [
        "the attribution of this matrix is not a finite number"
    ]
    made = attribution_map(rows, label="two tasks")
    assert "not a finite number" in made.data[-1].text[0]
    assert [trace.name for trace in made.data] == ["undefined", "undefined", "Attribution", "matrix"]


def test_all_undefined_and_none_at_all() -> None:
    rows = one_path(TABLE, 2, "past")
    assert np.isnan(np.array(maps(attribution_map(rows.assign(value=np.nan), label="past"))[0].z)).all()
    empty = attribution_map(rows.iloc[:0], label=NASTY)
    assert "not been attributed" in texts(empty)[0]
    assert "<b>" not in empty.to_json()


def test_several_cells_are_outlined_by_two_shapes() -> None:
    rows = one_path(TABLE, 2, "past")
    made = attribution_map(rows, label="past", outlined=[(0, "q_proj"), (2, "o_proj"), (9, "q_proj"), (0, "none")])
    assert len(made.layout.shapes) == 2
    assert made.layout.shapes[0].path == "M-0.5,-0.5L0.5,-0.5L0.5,0.5L-0.5,0.5Z M2.5,1.5L3.5,1.5L3.5,2.5L2.5,2.5Z"
    both = attribution_map(rows, label="past", outlined=[(0, "q_proj")], chosen=(3, "v_proj"))
    assert len(both.layout.shapes) == 4
    assert not attribution_map(rows, label="past", outlined=[(9, "q_proj")]).layout.shapes
    matrices = make_tables()["matrices"]
    grid = layer_grid(matrices[matrices["step"] == 3], ACTIVE, outlined=[(1, "k_proj")])
    assert grid.layout.shapes[0].path == "M0.5,0.5L1.5,0.5L1.5,1.5L0.5,1.5Z"


def test_limits_are_kept_and_names_are_literal_text() -> None:
    rows = one_path(TABLE, 3, NASTY).replace({"family": {"q_proj": NASTY}})
    made = attribution_map(rows, label=NASTY, limits=(-0.2, 0.2))
    assert (maps(made)[0].zmin, maps(made)[0].zmax) == (-0.2, 0.2)
    assert "<b>" not in made.to_json()
    assert "<a" not in made.to_json()


def test_paths_have_names() -> None:
    assert [path_name(0, 1), path_name(2, 3), path_name(0, 3)] == ["base → step 1", "step 2 → 3", "base → step 3"]


def test_multiples_have_a_map_a_task_and_a_column_a_path() -> None:
    made = attribution_multiples(TABLE, order=ORDER, axes=AXES)
    assert len(maps(made)) == len(TASKS)
    wide = len(FAMILIES) + 1
    for row, task in enumerate(TASKS):
        z = np.array(maps(made)[row].z, dtype=float)
        assert z.shape == (4, 4 * wide - 1)
        for k, (start, step) in enumerate([(0, 1), (1, 2), (2, 3), (0, 3)]):
            own = TABLE[(TABLE["task"] == task) & (TABLE["start"] == start) & (TABLE["step"] == step)]
            np.testing.assert_array_equal(z[:, k * wide : k * wide + len(FAMILIES)], pivot(own, "value", AXES))
        assert np.isnan(z[:, wide - 1 :: wide]).all()  # the gaps
    assert [text for text in texts(made)[:4] if "step" not in text] == [
        "<b>1</b> · past", "<b>2</b> · capital", "<b>3</b> · &lt;b&gt;bol…a&gt; *s*"
    ]  # fmt: skip
    assert texts(made)[3] == "base → step 3"


def test_multiples_frame_the_step_that_adds_a_task() -> None:
    made = attribution_multiples(TABLE, order=ORDER, axes=AXES)
    frames = [shape for shape in made.layout.shapes if shape.line.color == "#111111"]
    assert [(frame.yref, frame.path.split("L")[0]) for frame in frames] == [
        ("y", "M-0.5,-0.5"), ("y2", "M7.5,-0.5"), ("y3", "M15.5,-0.5")
    ]  # fmt: skip


def test_multiples_colour_by_the_earlier_tasks_and_say_what_lies_beyond() -> None:
    table = TABLE.copy()
    earlier = (table["task"] == "past") & (table["start"] == 1)
    table.loc[earlier, "value"] = 0.01
    table.loc[table["task"] != "past", "value"] = -0.001
    table.loc[(table["task"] == "past") & (table["start"] == 2), "value"] = 0.02
    table.loc[(table["task"] == "past") & (table["start"] == 0), "value"] = -3.0
    axis = attribution_multiples(table, order=ORDER, axes=AXES).layout.coloraxis
    assert (axis.cmin, axis.cmax) == (-0.02, 0.02)
    assert axis.colorbar.ticktext[0] == "≤ -0.0200"
    assert axis.colorbar.ticktext[-1] == "+0.0200"
    fixed = attribution_multiples(table, order=ORDER, axes=AXES, limits=(-4, 4)).layout.coloraxis
    assert (fixed.cmin, fixed.cmax, fixed.colorbar.ticktext[0]) == (-4, 4, "-4.00")


def test_multiples_state_change_residual_gaps_and_what_is_not_drawn() -> None:
    table = make_attribution(outside=-0.03)
    table = table[~((table["task"] == "maths") & (table["step"] == 1))]
    wrong = (table["task"] == "past") & (table["step"] == 2)
    table.loc[wrong, ["change", "residual", "converged"]] = [0.25, 0.01, False]
    made = attribution_multiples(table, order=ORDER, axes=AXES)
    assert "+0.250 ± 0.0100" in texts(made)
    assert texts(made).count("not attributed") == 1
    assert "up to ± 0.0300 nats" in made.layout.title.subtitle.text
    assert attribution_multiples(TABLE, order=ORDER, axes=AXES).layout.title.subtitle.text is None
    hidden = next(trace for trace in made.data[-2:] if trace.name == "undefined")
    assert np.nansum(np.array(hidden.z, dtype=float)) == 4 * 7


def test_multiples_of_a_large_model_are_few_traces_and_shapes() -> None:
    table = make_attribution(layers=36)
    made = attribution_multiples(table, order=ORDER, axes=grid_axes(table))
    assert len(made.data) == 2 * len(TASKS)
    assert len(made.layout.shapes) <= 3 * len(TASKS)
    assert len(made.to_json()) < 400_000


def test_multiples_keep_names_apart_and_literal() -> None:
    long = [f"expert{'x' * 100}.{k}" for k in range(2)]
    table = TABLE.replace({"family": {"q_proj": f"{long[0]}", "k_proj": f"{long[1]}", "v_proj": NASTY}})
    made = attribution_multiples(table, order=ORDER, axes=grid_axes(table))
    assert len(set(maps(made)[0].x)) == len(maps(made)[0].x)
    bare = made.to_json().replace("<b>1</b>", "").replace("<b>2</b>", "").replace("<b>3</b>", "")
    assert "<b>" not in bare
    assert "<a" not in bare


def test_multiples_of_nothing_and_of_what_is_not_finite() -> None:
    assert "Nothing has been attributed" in texts(attribution_multiples(TABLE.iloc[:0], order=ORDER, axes=AXES))[0]
    made = attribution_multiples(TABLE.assign(value=np.nan, change=np.nan), order=ORDER, axes=AXES)
    assert (made.layout.coloraxis.cmin, made.layout.coloraxis.cmax) == (-1, 1)
    assert texts(made).count("n/a") == 4 * len(TASKS)
    alone = TABLE[TABLE["task"] == "maths"]
    assert len(maps(attribution_multiples(alone, order=[], axes=AXES))) == 1
    first = attribution_multiples(one_path(TABLE, 1, "past"), order=ORDER, axes=AXES)
    assert len(first.layout.shapes) == 2  # the frame of the only map
    assert first.layout.coloraxis.cmax == one_path(TABLE, 1, "past")["value"].abs().max()
