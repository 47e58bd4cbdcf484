"""The layer grid: values in their cells, undefined cells marked with a reason, one clickable point a cell."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import GridAxes, collapsed, expert_numbers, grid_axes, layer_grid, pivot
from gcwm_viz.figures.step_multiples import step_multiples
from gcwm_viz.signals.catalogue import ACTIVE, GLOBAL_GAP, INCOMING, on_page
from gcwm_viz.signals.signal import Signal
from tests.factories_runs import make_tables


def cells(kind: str = "normal", step: int = 3) -> pd.DataFrame:
    matrices = make_tables(kind)["matrices"]
    return matrices[matrices["step"] == step]


def heatmap(made: go.Figure) -> Any:
    return next(trace for trace in made.data if trace.type == "heatmap" and trace.name != "undefined")


@pytest.mark.parametrize("signal", on_page("Conflict"), ids=lambda signal: signal.column)
def test_every_value_is_in_its_cell(signal: Signal) -> None:
    rows = cells()
    axes = grid_axes(rows)
    z = np.array(heatmap(layer_grid(rows, signal)).z)
    for row in rows.to_dict("records"):
        assert z[axes.layers.index(row["layer"]), axes.families.index(row["family"])] == row[signal.column]


def test_point_order_is_the_cell_order() -> None:
    rows = cells()
    axes = grid_axes(rows)
    points = layer_grid(rows, ACTIVE).data[-1]
    assert len(points.x) == len(axes.layers) * len(axes.families)
    for index in (0, 6, 7, 27):
        layer, family = axes.cell(index)
        assert (points.y[index], points.x[index]) == (axes.layers.index(layer), axes.families.index(family))
        assert f"layer {layer} · {family}" in points.text[index]
    with pytest.raises(IndexError, match="outside a grid"):
        axes.cell(28)


def test_undefined_cells_are_marked_with_their_reason() -> None:
    made = layer_grid(cells(step=1), INCOMING)
    marks = [trace for trace in made.data if trace.name == "undefined"]
    assert len(marks) == 2
    assert len(marks[1].x) == 28
    assert "no state before step 1" in made.data[-1].text[0]
    assert "n/a" in made.data[-1].text[0]


def test_missing_matrix_is_said_not_drawn() -> None:
    rows = cells()
    rows = rows[~((rows["layer"] == 2) & (rows["family"] == "k_proj"))]
    made = layer_grid(rows, ACTIVE)
    axes = grid_axes(rows)
    index = axes.layers.index(2) * len(axes.families) + axes.families.index("k_proj")
    assert "no such matrix" in made.data[-1].text[index]
    assert np.isnan(np.array(heatmap(made).z)[2, axes.families.index("k_proj")])


def test_gap_is_centred_on_zero_and_limits_hold() -> None:
    made = heatmap(layer_grid(cells(), GLOBAL_GAP))
    assert made.zmin == -made.zmax
    fixed = heatmap(layer_grid(cells(), ACTIVE, limits=(0, 0.7)))
    assert (fixed.zmin, fixed.zmax) == (0, 0.7)


def test_bounds_never_empty() -> None:
    assert bounds(pd.Series([np.nan, np.nan])) == (0.0, 1.0)
    assert bounds(pd.Series([0.0, 2e-16]), diverging=True) == (-1.0, 1.0)
    assert bounds(pd.Series([-0.3, 0.1]), diverging=True) == (-0.3, 0.3)
    assert bounds(pd.Series([], dtype=object)) == (0.0, 1.0)
    assert bounds(pd.Series([0.2, 0.5]), fit=True) == (0.2, 0.5)
    assert bounds(pd.Series([0.5, 0.5]), fit=True) == (0.0, 0.5)
    assert bounds(pd.Series([0.1, 0.5]), diverging=True, fit=True) == (-0.5, 0.5)


def test_chosen_cell_is_outlined_and_an_unknown_one_is_not() -> None:
    assert len(layer_grid(cells(), ACTIVE, chosen=(2, "o_proj")).layout.shapes) == 2
    assert not layer_grid(cells(), ACTIVE, chosen=(9, "o_proj")).layout.shapes


def test_empty_step_says_so() -> None:
    made = layer_grid(cells(step=99), ACTIVE)
    assert not made.data
    assert "No matrix" in made.layout.annotations[0].text


def test_family_names_are_literal_text() -> None:
    rows = cells().assign(family=lambda table: table["family"].replace("q_proj", "<b>q</b>"))
    made = layer_grid(rows, ACTIVE)
    assert made.layout.xaxis.ticktext[0] == "&lt;b&gt;q&lt;/b&gt;"
    assert "<b>" not in made.data[-1].text[0]


def test_step_multiples_have_a_panel_a_step() -> None:
    matrices = make_tables()["matrices"]
    made = step_multiples(matrices, INCOMING, grid_axes(matrices))
    panels = [trace for trace in made.data if trace.name != "undefined"]
    assert [trace.name for trace in panels] == [f"step {step}" for step in range(1, 7)]
    assert np.isnan(np.array(panels[0].z)).all()
    assert np.allclose(panels[3].z, pivot(cells(step=4), "incoming_conflict", grid_axes(matrices)))
    one = make_tables("one")["matrices"]
    assert not step_multiples(one, INCOMING, grid_axes(one)).data


def test_pivot_takes_any_row_order() -> None:
    rows = cells()
    axes = GridAxes(layers=(3, 0), families=("v_proj", "q_proj"))
    expected = rows.set_index(["layer", "family"])["conflict"]
    z = pivot(rows.sample(frac=1, random_state=1), "conflict", axes)
    assert z[0, 1] == expected[3, "q_proj"]
    assert z[1, 0] == expected[0, "v_proj"]


def routed() -> pd.DataFrame:
    """Two layers, a projection and three experts with two modules each; one of the experts' values is undefined."""
    families = ["q_proj", *(f"experts.{expert}.{name}" for expert in range(3) for name in ("up_proj", "down_proj"))]
    rows = [(layer, family) for layer in (0, 1) for family in families]
    table = pd.DataFrame(rows, columns=["layer", "family"]).assign(matrix="m", step=1, reason="")
    table[ACTIVE.column] = np.linspace(0.1, 0.8, len(table))
    table[GLOBAL_GAP.column] = np.linspace(-0.6, 0.3, len(table))
    undefined = (table["layer"] == 1) & (table["family"] == "experts.2.up_proj")
    table.loc[undefined, ACTIVE.column] = np.nan
    return table


@pytest.mark.parametrize("experts", ["mean", "max"])
@pytest.mark.parametrize("signal", [ACTIVE, GLOBAL_GAP], ids=lambda signal: signal.column)
def test_experts_share_a_column(experts: str, signal: Signal) -> None:
    rows = routed()
    full = grid_axes(rows)
    axes = collapsed(full, experts)
    assert expert_numbers(full) == [0, 1, 2]
    assert axes.families == ("q_proj", "experts.*.up_proj", "experts.*.down_proj")
    z = np.array(heatmap(layer_grid(rows, signal, axes=axes)).z)
    for layer, column in ((layer, column) for layer in (0, 1) for column in range(3)):
        name = axes.families[column].replace("*", r"\d").replace(".", r"\.")
        own = rows.loc[(rows["layer"] == layer) & rows["family"].str.fullmatch(name), signal.column].dropna()
        assert len(own) == (1 if column == 0 else 2 if (layer, column) == (1, 1) and signal is ACTIVE else 3)
        expected = own.mean() if experts == "mean" else max(own, key=abs)
        assert z[layer, column] == pytest.approx(expected, rel=1e-12)
    assert axes.matrices(1) == [(0, f"experts.{expert}.up_proj") for expert in range(3)]
    assert axes.matrices(3) == [(1, "q_proj")]


def test_what_a_shared_column_says_and_outlines() -> None:
    rows = routed()
    largest = rows.assign(**{ACTIVE.column: 0.5 + 0.4 * (rows["family"] == "experts.1.up_proj")})
    axes = collapsed(grid_axes(rows), "max")
    assert "Active conflict: 0.900<br>experts.1.up_proj" in layer_grid(largest, ACTIVE, axes=axes).data[-1].text[1]
    axes = collapsed(grid_axes(rows), "mean")
    assert "mean of 3" in layer_grid(rows, ACTIVE, axes=axes).data[-1].text[1]
    first, last = (0, "experts.0.up_proj"), (0, "experts.2.up_proj")
    chosen = [layer_grid(rows, ACTIVE, axes=axes, chosen=cell).layout.shapes for cell in (first, last)]
    assert chosen[0] == chosen[1] != ()
    outlined = [layer_grid(rows, ACTIVE, axes=axes, outlined=own).layout.shapes for own in ([first], [last, first])]
    assert outlined[0] == outlined[1] != ()
    undefined = rows.assign(reason="one update")
    undefined[ACTIVE.column] = np.nan
    assert "n/a<br>mean of 3<br>one update" in layer_grid(undefined, ACTIVE, axes=axes).data[-1].text[1]


def test_one_expert_alone() -> None:
    rows = routed()
    axes = collapsed(grid_axes(rows), "1")
    assert axes.families == ("q_proj", "experts.1.up_proj", "experts.1.down_proj")
    z = np.array(heatmap(layer_grid(rows, ACTIVE, axes=axes)).z)
    own = rows[rows["family"] == "experts.1.down_proj"]
    assert z[:, 2].tolist() == own[ACTIVE.column].tolist()
    assert collapsed(grid_axes(rows), "each") == grid_axes(rows)
    dense = grid_axes(cells())
    assert expert_numbers(dense) == []
    assert collapsed(dense, "mean").families == dense.families
