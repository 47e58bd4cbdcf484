"""The section Calibration of the page Gate: with one, without one, and of a run without a gate."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from streamlit.testing.v1 import AppTest

from tests.factories_runs import write_run
from tests.ui.test_pages import titles, words

PAGE = "pages/3_Gate.py"


def test_it_says_what_it_saw_and_shows_coefficients_losses_and_scores(open_page: Callable[..., AppTest]) -> None:
    app = open_page(PAGE, run="normal")
    assert titles(app)[-3:] == [
        "How much of each update each matrix takes",
        "Loss over the passes of the calibration",
        "Scores of the merged and the calibrated model",
    ]
    assert "saw development probes" in words(app)
    shown = {metric.label: metric.value for metric in app.metric}
    assert (shown["Merged"], shown["Calibrated"]) == ("0.700", "0.800")


def test_without_one_it_shows_the_command(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "plain")
    shutil.rmtree(run / "calibration")
    app = open_page(PAGE, root=tmp_path)
    assert not app.exception
    assert [code.value for code in app.code] == [f"python -m gcwm_viz calibrate {run}"]


def test_a_run_without_a_gate_has_the_section_too(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    run = write_run(tmp_path, "normal", "wudi", method="wudi")
    file = run / "tables" / "matrices.parquet"
    pd.read_parquet(file).assign(mode="merged").to_parquet(file)
    app = open_page(PAGE, root=tmp_path)
    assert not app.exception
    assert "has no gate" in words(app)
    assert len(titles(app)) == 3
