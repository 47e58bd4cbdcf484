"""The section Calibration of the page Strength: with one, and without one."""

import shutil
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from tests.factories_runs import write_run
from tests.ui.test_pages import titles, words

PAGE = "pages/16_Strength.py"


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
    assert [code.value for code in app.code] == [f"gcwm-viz calibrate {run}"]
