"""What to look for in a chart: the numbers are those of the chart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.runs.highlights import scored
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui import readings


def test_tasks_above_the_base_and_as_good_as_their_expert(run_root: Path) -> None:
    scores = scored(open_run(run_root / "normal"))
    assert scores is not None
    R = pd.DataFrame([[0.1, 0.5, 0.5], [0.9, 0.5, 0.8]], index=[0, 1], columns=["a", "b", "c"])
    own = pd.Series({"a": 0.9, "b": 0.9, "c": 0.81})
    case = replace(scores, R=R, errors=0 * R + 0.02, own=own, metric="em")
    assert "2 of 3 tasks stand above" in readings.kept(case)
    assert "and 2 are as good" in readings.kept(case)
    assert "0 of 3 tasks stand above" in readings.kept(replace(case, metric="nll"))  # lower is better: none fell
    assert readings.kept(replace(case, R=R.loc[[1]], errors=R.loc[[1]])) == ""


def test_sides_of_the_threshold() -> None:
    cells = pd.DataFrame({"conflict": [0.2, 0.6, np.nan, 0.9]})
    said = readings.decided(cells, GCWMConfig(tau=0.5))
    assert said.startswith("2 of 3 matrices lie above the threshold τ = 0.5")
    assert "0.200 to 0.900" in said
    assert readings.decided(cells.assign(conflict=np.nan), GCWMConfig()) == ""


def test_directions_of_half_the_energy() -> None:
    spectra = pd.DataFrame(
        {
            "source": ["flat", "steep", "barycenter"],
            "kind": ["update", "update", "barycenter"],
            "eigenvalues": [np.ones(8), np.array([9.0, 1.0, 1.0]), np.ones(8)],
        }
    )
    assert readings.concentrated(spectra) == "Half of the energy lies in 1 (steep) to 4 (flat) directions of an update."
    assert "of every update lies in 4" in readings.concentrated(spectra.iloc[[0]])
    assert readings.concentrated(spectra.iloc[[2]]) == ""


def test_the_step_that_lost_most() -> None:
    counts = pd.DataFrame({"task": ["a", "a"], "step": [1, 2], "lost": [1, 5], "learned": [4, 0], "regained": [0, 2]})
    said = readings.flipped(counts, ["x", "y"])
    assert said == "Step 2, y, lost most: 5 answers. All steps together lost 6 and learned or regained 6."
    assert readings.flipped(counts.assign(lost=0), ["x", "y"]) == "No step lost an answer."
    assert readings.flipped(counts.iloc[:0], []) == ""
