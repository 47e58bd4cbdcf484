"""Coefficients as a heatmap and the losses of a fit, from tables; empty and undefined values."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.figures.calibration_curve import calibration_curve
from gcwm_viz.figures.coefficients import MOST_NUMBERS, coefficients
from tests.factories_calibration import make_calibration
from tests.factories_runs import NASTY, matrix_name

UPDATES = ("past", "capital", NASTY)


def tables(layers: int = 2) -> dict[str, pd.DataFrame]:
    names = [(matrix_name(layer, family), layer, family) for layer in range(layers) for family in ("q_proj", "up_proj")]
    return make_calibration(pd.DataFrame(names, columns=["matrix", "layer", "family"]), UPDATES)


def test_cells_are_the_change_from_the_merged_model_and_show_the_coefficients() -> None:
    table = tables()["calibration"]
    made = coefficients(table)
    z = np.array(made.data[-2].z, dtype=float)
    values = table["value"].to_numpy().reshape(4, 4)
    assert z == pytest.approx(values - np.array([1.0, 0, 0, 0]), nan_ok=True)
    assert made.data[-2].zmin == -made.data[-2].zmax
    assert made.data[-1].text[0] == f"{values[0, 0]:#.3g}"
    assert made.layout.xaxis.ticktext[0] == "merged state"
    assert list(made.layout.yaxis.ticktext) == ["0 · q", "0 · up", "1 · q", "1 · up"]


def test_an_absent_update_gives_its_reason() -> None:
    made = coefficients(tables()["calibration"])
    assert made.data[-1].text[-1] == ""
    assert made.data[-1].hovertext[-1].endswith("n/a<br>it does not change this matrix")


def test_many_matrices_show_their_numbers_on_hover_alone() -> None:
    made = coefficients(tables(layers=MOST_NUMBERS)["calibration"])
    assert made.data[-1].mode == "markers"
    assert len(made.layout.yaxis.ticktext) <= MOST_NUMBERS


def test_the_curve_marks_the_pass_that_was_kept() -> None:
    curve = tables()["calibration_curve"]
    made = calibration_curve(curve)
    assert [line.name for line in made.data] == ["fitted probes", "held-out probes"]
    assert list(made.data[1].y) == list(curve["held_out"])
    assert made.layout.shapes[0].x0 == 7
    alone = calibration_curve(curve.assign(held_out=np.nan))
    assert [line.name for line in alone.data] == ["fitted probes"]


def test_no_calibration_is_said() -> None:
    for made in (coefficients(tables()["calibration"].iloc[:0]), calibration_curve(tables()["calibration_curve"][:0])):
        assert "has not been calibrated" in made.layout.annotations[0].text


def test_names_are_literal_text() -> None:
    assert "<b>bold" not in coefficients(tables()["calibration"]).to_json()
