"""Leave-one-out effects draw the numbers of their tables."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.decide.evidence import left_out_effects as effects_of
from gcwm_viz.figures.left_out_effects import left_out_effects
from gcwm_viz.figures.left_out_matrix import left_out_matrix
from tests.factories_runs import NASTY, TASKS, make_tables

EFFECTS = effects_of(make_tables("normal")["leave_one_out"], "index", "dev", "em")


def test_effects_carry_their_errors() -> None:
    made = left_out_effects(EFFECTS)
    others, own = made.data
    assert own.y == ("index",)
    assert own.marker.symbol == "diamond"
    assert list(others.x) == pytest.approx(EFFECTS[~EFFECTS["own"]]["change"].to_list())
    assert list(others.error_x.array) == pytest.approx([1.96 * 0.015] * 5, rel=1e-4)
    assert made.layout.yaxis.categoryarray == TASKS


def test_undefined_effects_are_left_out_and_none_says_so() -> None:
    holes = EFFECTS.assign(change=[np.nan, *EFFECTS["change"][1:]])
    assert sum(len(trace.x) for trace in left_out_effects(holes).data) == 5
    for empty in (EFFECTS.iloc[:0], EFFECTS.assign(change=np.nan)):
        assert "run leave-one-out" in left_out_effects(empty).layout.annotations[0].text


def test_matrix_is_centred_and_marks_what_is_told_from_zero() -> None:
    change = pd.DataFrame([[-0.5, 0.02], [0.2, np.nan]], index=["a", NASTY], columns=["a", "b"])
    errors = pd.DataFrame(0.05, index=["b", NASTY, "a"], columns=["b", "a"])
    made = left_out_matrix(change, errors)
    heat = next(trace for trace in made.data if trace.type == "heatmap" and trace.zmin == -0.5)
    assert (heat.zmin, heat.zmax) == (-0.5, 0.5)
    text = made.data[-1]
    assert list(text.text) == ["-0.50", "+0.02", "+0.20", ""]
    assert text.textfont.color[0] == "#ffffff"
    assert text.textfont.color[1] != text.textfont.color[2] == "#111111"
    assert "<b>" not in made.to_json()
    assert "run leave-one-out" in left_out_matrix(change * np.nan, errors).layout.annotations[0].text
    assert left_out_matrix(change.iloc[:0], errors).layout.annotations
