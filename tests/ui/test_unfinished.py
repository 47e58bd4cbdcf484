"""Pages of a run that is still computing, or was interrupted: they draw what has landed."""

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.factories_lab import mergeable
from tests.factories_unfinished import unfinished
from tests.ui.test_pages import VIEWS, titles, words


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with half of its matrices and no score, and one with all matrices and some scores."""
    run, root = mergeable(tmp_path_factory.mktemp("whole"), examples=2).path, tmp_path_factory.mktemp("unfinished")
    unfinished(run, root / "merging", matrices=14, models=0)
    unfinished(run, root / "scoring", matrices=28, models=3)
    return root


@pytest.mark.parametrize("name", ["merging", "scoring"])
@pytest.mark.parametrize("page", VIEWS)
def test_every_page_draws_what_has_landed(open_page: Callable[..., AppTest], page: str, name: str, root: Path) -> None:
    app = open_page(page, root=root, run=name)
    assert not app.exception
    assert not app.error
    assert "not finished" in words(app)
    assert "no finished step" not in words(app)


def test_a_running_run_says_how_far_it_is(open_page: Callable[..., AppTest], root: Path) -> None:
    with (root / "merging" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        app = open_page("pages/1_Conflict.py", root=root, run="merging")
        assert not app.exception
        (bar,) = app.get("progress")
        assert bar.proto.text.startswith("Computing: 14 of 28 matrices merged")
    assert "Active conflict" in titles(app)


def test_a_map_keeps_its_shape_while_it_fills(open_page: Callable[..., AppTest], root: Path) -> None:
    half, whole = (titles(open_page("pages/4_Solver.py", root=root, run=name)) for name in ("merging", "scoring"))
    assert half == whole
