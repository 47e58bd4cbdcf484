"""Spectra, gate, solver, depth and family figures draw the numbers of their tables."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from gcwm_viz.figures import (
    angles,
    barycenter_path,
    depth_profile,
    family_share,
    gate_curve,
    signal_history,
    signal_multiples,
    solver_path,
    spectrum,
)
from gcwm_viz.figures.layer_grid import grid_axes, pivot
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.gate import gate
from gcwm_viz.signals.catalogue import ACTIVE, INCOMING, STATE, on_page
from tests.factories_runs import NASTY, make_tables
from tests.rounding import rounding

TABLES = make_tables("normal")


def one(table: str, step: int = 4, layer: int = 2, family: str = "v_proj") -> pd.DataFrame:
    rows = TABLES[table]
    return rows[(rows["step"] == step) & (rows["layer"] == layer) & (rows["family"] == family)]


def trace(made: go.Figure, name: str) -> Any:
    return next(trace for trace in made.data if trace.name == name)


def test_spectrum_fills_an_update_up_with_lambda() -> None:
    rows = one("spectra")
    made = spectrum.spectrum(rows, 0.25)
    line = trace(made, "past")
    stored = rows[rows["source"] == "past"]["eigenvalues"].iloc[0]
    assert np.allclose(line.y[: len(stored)], stored)
    assert len(line.y) == rows["union_rank"].iloc[0]
    assert np.allclose(line.y[len(stored) :], rows["lam"].iloc[0])
    assert made.layout.yaxis.type == "log"
    assert any("25 % of the trace" in note.text for note in made.layout.annotations)
    assert {"Wasserstein barycenter", "mean metric", "state"} <= {line.name for line in made.data}


def test_energy_rises_to_one_without_lambda() -> None:
    made = spectrum.energy(one("spectra"))
    for line in made.data:
        assert line.y[0] == 0
        assert line.y[-1] == pytest.approx(1)
        assert (np.diff(line.y) >= -rounding(len(line.y))).all()
    assert np.argmax(np.array(trace(made, "past").y) > 1 - 1e-9) == 4


def test_no_spectrum_says_so() -> None:
    for made in (spectrum.spectrum(one("spectra", layer=9)), spectrum.energy(one("spectra", layer=9))):
        assert not made.data
        assert made.layout.annotations[0].text


def test_gate_curve_places_every_matrix_on_the_sigmoid() -> None:
    cells = TABLES["matrices"][TABLES["matrices"]["step"] == 4]
    config = GCWMConfig(tau=0.3, kappa=7)
    made = gate_curve.gate_curve(cells, config, before=replace(config, tau=0.1), chosen=cells["matrix"].iloc[3])
    points = [trace for trace in made.data if trace.mode == "markers" and trace.name != "chosen matrix"]
    assert sum(len(trace.x) for trace in points) == len(cells)
    for trace_ in points:
        assert np.allclose(trace_.y, gate(np.array(trace_.x), config))
    assert {"as run", "gate", "chosen matrix"} <= {trace.name for trace in made.data}


def test_gate_curve_counts_what_it_leaves_out() -> None:
    matrices = make_tables("nan")["matrices"]
    cells = matrices[matrices["step"] == 3]
    made = gate_curve.gate_curve(cells, GCWMConfig())
    assert f"({cells['conflict'].isna().sum()} without" in made.layout.title.text
    assert not gate_curve.gate_curve(cells.assign(conflict=np.nan), GCWMConfig()).data


def test_solver_paths() -> None:
    rows = one("solver")
    made = solver_path.objective_path(rows)
    for line in made.data:
        assert line.y[0] == pytest.approx(1)
    assert np.allclose(trace(made, "plain branch").y[-1], 0.4)
    shift = solver_path.shift_path(rows)
    assert trace(shift, "geometry branch").y[-1] == pytest.approx(0.005)
    absolute = solver_path.shift_path(rows.assign(relative_shift=np.nan))
    assert trace(absolute, "geometry branch").y[-1] == pytest.approx(0.01)
    assert not solver_path.objective_path(rows.iloc[:0]).data


def test_objective_of_zero_at_the_start_is_left_as_it_is() -> None:
    rows = one("solver").assign(objective=0.0)
    assert list(trace(solver_path.objective_path(rows), "plain branch").y) == [0, 0, 0]


def test_depth_profile_is_the_mean_of_a_layer() -> None:
    cells = TABLES["matrices"][TABLES["matrices"]["step"] == 4]
    made = depth_profile.depth_profile(cells, (ACTIVE, STATE), chosen_layer=2)
    line = trace(made, ACTIVE.title)
    assert np.allclose(line.y, [cells[cells["layer"] == layer]["active_conflict"].mean() for layer in range(4)])
    first = TABLES["matrices"][TABLES["matrices"]["step"] == 1]
    assert not depth_profile.depth_profile(first, (ACTIVE, INCOMING)).data


def test_family_shares_sum_to_one_and_find_the_planted_family() -> None:
    shares = family_share.family_shares(TABLES["matrices"], "active_conflict", 10)
    assert shares["share"].sum() == pytest.approx(1)
    assert shares["cells"].sum() == 10
    assert shares["expected"].sum() == pytest.approx(1)
    assert shares["share"].idxmax() == "down_proj"
    everything = family_share.family_shares(TABLES["matrices"], "active_conflict", 10_000)
    assert np.allclose(everything["share"], everything["expected"])
    assert len(family_share.family_share(shares, ACTIVE).data) == 2


def test_family_shares_without_a_defined_value() -> None:
    one_update = make_tables("one")["matrices"]
    shares = family_share.family_shares(one_update, "active_conflict", 10)
    assert shares.empty
    assert "not defined" in family_share.family_share(shares, ACTIVE).layout.annotations[0].text


def test_source_names_are_literal() -> None:
    rows = make_tables("nan")["spectra"]
    rows = rows[(rows["step"] == 3) & (rows["layer"] == 0) & (rows["family"] == "q_proj")]
    assert NASTY in set(rows["source"])
    assert not any("<b>" in line.name for line in spectrum.spectrum(rows).data)


def test_lowest_objective_is_a_line_where_it_is_known() -> None:
    made = solver_path.objective_path(one("solver"), {"plain": 0.25, "geo": np.nan})
    assert [shape.y0 for shape in made.layout.shapes] == [1, 0.25]
    assert [line.name for line in made.data] == ["plain branch, at best 0.250", "geometry branch"]
    assert not solver_path.objective_path(one("solver").iloc[:0], {"plain": 0.25}).data


def test_angles_of_the_arriving_update_stand_out() -> None:
    rows = one("pairs")
    made = angles.angles(rows, "symbol")
    assert [line.name for line in made.data] == ["earlier pairs", "with past", "with capital", "with index"]
    stored = rows[(rows["i"] == "past") & (rows["j"] == "symbol")]["principal_angles"].iloc[0]
    assert np.allclose(trace(made, "with past").y, stored)
    assert len(trace(made, "earlier pairs").y) == 3 * (4 + 1)
    assert not angles.angles(one("pairs", step=1), "past").data
    assert not angles.angles(rows.assign(principal_angles=np.nan), "symbol").data


def test_angles_take_names_literally() -> None:
    rows = make_tables("nan")["pairs"]
    rows = rows[(rows["step"] == 3) & (rows["layer"] == 0) & (rows["family"] == "q_proj")]
    assert not any("<b>" in str(line.to_plotly_json()) for line in angles.angles(rows, NASTY).data)


def test_barycenter_path_is_drawn_against_its_tolerance() -> None:
    rows = one("barycenter")
    made = barycenter_path.barycenter_path(rows, 1e-8)
    assert np.allclose(made.data[0].y, rows["residual"])
    assert made.layout.yaxis.type == "log"
    assert made.layout.shapes[0].y0 == 1e-8
    low, high = made.layout.yaxis.range
    assert low < -8 < np.log10(rows["residual"].max()) < high
    for nothing in (rows.iloc[:0], one("barycenter", step=1)):
        assert not barycenter_path.barycenter_path(nothing, 1e-8).data


def test_the_history_of_a_matrix_among_all() -> None:
    matrices = TABLES["matrices"]
    made = signal_history.signal_history(matrices, ACTIVE, (2, "v_proj"), [(0, "q_proj"), (1, "k_proj")], 4)
    own = matrices[(matrices["layer"] == 2) & (matrices["family"] == "v_proj")]
    assert np.array_equal(trace(made, "layer 2, v").y, own[ACTIVE.column], equal_nan=True)
    two = pd.MultiIndex.from_frame(matrices[["layer", "family"]]).isin([(0, "q_proj"), (1, "k_proj")])
    mean = matrices[two].groupby("step")[ACTIVE.column].mean()
    assert np.array_equal(trace(made, "mean of 2 selected").y, mean, equal_nan=True)
    assert trace(made, "median").y[0] == matrices[matrices["step"] == 2][ACTIVE.column].median()  # step 1 has no pair
    named = signal_history.signal_history(matrices.replace("v_proj", NASTY), ACTIVE, (2, NASTY))
    assert "<b>" not in named.to_json()
    nowhere = signal_history.signal_history(matrices[matrices["step"] == 1], ACTIVE, (2, "v_proj"))
    assert not nowhere.data


def test_all_signals_are_drawn_on_their_own_scales() -> None:
    cells, signals = TABLES["matrices"].query("step == 4"), on_page("Conflict")
    axes = grid_axes(cells)
    limits = {signal.column: (0.0, float(place + 1)) for place, signal in enumerate(signals)}
    made = signal_multiples.signal_multiples(cells, signals, axes, limits)
    for place, signal in enumerate(signals):
        drawn = trace(made, signal.title)
        assert np.array_equal(drawn.z, pivot(cells, signal.column, axes))
        assert drawn.zmax == place + 1
        assert "<br>0 to " in made.layout.annotations[place].text


def test_the_closed_form_in_words() -> None:
    row = one("matrices").iloc[0]
    said = solver_path.solved_at_once(row, "geo", "geometry branch")
    assert said.startswith("Geometry branch: the objective fell to 0.600 of its value at the plain sum of updates")
    start = pd.Series({**row, "plain_objective": np.nan, "plain_shift": 0.0})
    solved = solver_path.solved_at_once(start, "plain", "plain branch")
    assert "is its solution already" in solved
    unsolved = solver_path.solved_at_once(pd.Series(dict.fromkeys(row.index, np.nan)), "plain", "plain")
    assert "not solved" in unsolved
