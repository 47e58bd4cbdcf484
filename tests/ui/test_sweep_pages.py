"""The folder of a sweep is a run root: its points are listed, opened and compared like any run."""

from collections.abc import Callable
from pathlib import Path

import torch
from streamlit.testing.v1 import AppTest

from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.studies.sweep import sweep, sweep_runs
from tests.continual.inputs import write_base, write_updates


def test_points_are_listed_opened_and_compared(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    inputs = Inputs(base=write_base(tmp_path / "base"), updates=write_updates(tmp_path / "updates", "ab"))
    points = sweep_runs("ab", ["gcwm"], {"mu_rel": [0.1, 1.0]}, orders=2)
    root = tmp_path / "sweep"
    sweep(inputs, root, points, LocalEngine(torch.device("cpu"), 1))
    start = open_page("pages/0_Start.py", root=root)
    assert not start.exception
    shown = "\n".join(str(element.value) for element in (*start.markdown, *start.text))
    for point in points:
        assert point.name in shown.replace("\\", "")
    assert shown.count("complete") == len(points)
    overview = open_page("app.py", root=root, run=points[0].name)
    assert not overview.exception
    compared = open_page("pages/7_Two_runs.py", root=root, run=points[0].name, against=points[1].name)
    assert not compared.exception
    assert compared.selectbox(key="against").value == points[1].name
    assert compared.get("plotly_chart")
