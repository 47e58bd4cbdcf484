"""Grids: what a command line says of them, and their points."""

import pytest

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.errors import InputError
from gcwm_viz.studies.grid import distinct, grid_points, parse_grid


def test_points_are_named_for_what_they_set() -> None:
    points = grid_points({"eta": [0.1, 0.2], "gate": ["none", "conflict"]}, "gcwm", "paper", {"iters": 5})
    assert [point.name for point in points][:2] == ["eta=0.1,gate=none", "eta=0.1,gate=conflict"]
    assert {point.merge for point in points} == {"gate=none,iters=5", "gate=conflict,iters=5"}
    assert [point.merge for point in grid_points({"eta": [1.0]}, "mean", "paper")] == ["default"]
    assert points[3].settings == RunSettings.preset_with("paper", {"eta": 0.2, "gate": "conflict", "iters": 5})


def test_a_grid_without_settings_has_one_point() -> None:
    (point,) = grid_points({}, "mean", "paper", {"eta": 0.5})
    assert point.values == {}
    assert point.settings.continual.eta == 0.5


def test_a_name_that_is_no_file_name_is_a_digest() -> None:
    (point,) = grid_points({"gate": ["none"]}, "gcwm", "paper")
    assert point.merge == point.name == "gate=none"
    names = ("lam", "mu_rel", "ridge", "tau", "kappa", "energy", "analysis_energy", "barycenter_tol")
    many = {name: [0.123456789] for name in names}
    (point,) = grid_points(many, "gcwm", "paper")
    assert len(point.name) == 16


def test_values_are_distinct_as_they_are_written() -> None:
    assert distinct([None, 1, "a"])
    assert not distinct([None, "none"])
    assert not distinct([1.0, 1.0])


def test_a_setting_is_varied_or_fixed() -> None:
    with pytest.raises(InputError, match="both in the grid and fixed"):
        grid_points({"eta": [1.0]}, "gcwm", "paper", {"eta": 2.0})


def test_a_grid_from_a_command_line() -> None:
    assert parse_grid(["eta=0.5,1", "memory=none,2", "gate=none,conflict"]) == {
        "eta": [0.5, 1],
        "memory": [None, 2],
        "gate": ["none", "conflict"],
    }
    for bad in (["eta"], ["eta="], ["eta=1,"], ["=1"], ["eta=1", "eta=2"]):
        with pytest.raises(InputError):
            parse_grid(bad)
