"""Pages on runs whose tasks are measured by accuracy, exact match and perplexity, and by perplexity alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.cli import main
from gcwm_viz.runs.tables import Run
from tests.probes.test_mixed_run import inputs, run  # noqa: F401  a run of mixed measures
from tests.torture.small import write_inputs
from tests.ui.test_pages import CHARTS, charts, words

PAGES = ("app.py", "pages/5_Scores.py", "pages/7_Two_runs.py", "pages/8_Decide.py", "pages/9_Talk.py")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a run that has nothing but texts for perplexity."""
    root = tmp_path_factory.mktemp("texts")
    arguments = write_inputs(root)
    for file in (root / "probes").glob("*/*.jsonl"):
        rows = [{"text": f"number {k} and {k + 1}"} for k in range(5)]
        file.write_text("\n".join(map(json.dumps, rows))) if file.parent.name != "representation" else file.unlink()
    assert main(["run", *arguments, "--workers", "1", "--out", str(root / "runs" / "texts")]) == 0
    return root / "runs"


@pytest.fixture(scope="module")
def mixed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A root with the run of mixed measures, twice."""
    root = tmp_path_factory.mktemp("roots")
    for name in ("run", "same"):
        shutil.copytree(run.path, root / name)
    return root


@pytest.mark.parametrize("page", PAGES)
def test_mixed_measures(open_page: Callable[..., AppTest], mixed: Path, page: str) -> None:
    app = open_page(page, root=mixed, run="run")
    assert not app.exception
    assert not app.error
    if page != "pages/8_Decide.py":
        assert len(charts(app)) >= CHARTS[page] - 1  # no labelled sets
    if page in ("pages/5_Scores.py", "pages/8_Decide.py"):
        (metric,) = (box for box in app.segmented_control if box.label == "Metric")
        assert metric.value == "accuracy"
        assert metric.options == ["exact match or accuracy", "exact match", "accuracy", "nats per token", "perplexity"]
        metric.set_value("ppl").run()
        assert not app.exception
        assert not app.error


@pytest.mark.parametrize("page", PAGES)
def test_perplexity_alone(open_page: Callable[..., AppTest], texts: Path, page: str) -> None:
    app = open_page(page, root=texts, run="texts")
    assert not app.exception
    assert not app.error
    if page == "pages/9_Talk.py":
        assert "nats per token" in words(app)
        assert "exactly" not in words(app)
