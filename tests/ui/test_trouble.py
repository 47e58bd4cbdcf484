"""What cannot be read is said on the page, in one sentence, whichever part of it asked."""

import pathlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from gcwm_viz.app import FOLDER
from gcwm_viz.jobs import jobs
from gcwm_viz.runs.tables import open_run
from gcwm_viz.ui import downloads, frame, run_jobs
from gcwm_viz.ui.page import PAGES
from gcwm_viz.ui.run_jobs import Entry
from tests.factories_runs import NASTY, write_run
from tests.ui.test_pages import VIEWS, words

READ = {
    "steps": ("app.py",),
    "updates": ("app.py",),
    "pairs": ("pages/1_Conflict.py", "pages/2_Spectra.py"),
    "spectra": ("pages/2_Spectra.py",),
    "barycenter": ("pages/2_Spectra.py",),
    "solver": ("pages/4_Solver.py",),
    "scores": (
        "app.py", "pages/5_Scores.py", "pages/13_Examples.py", "pages/7_Two_runs.py", "pages/8_Decide.py",
        "pages/9_Talk.py",
    ),
    "representation": ("pages/5_Scores.py",),
    "leave_one_out": ("pages/8_Decide.py",),
}  # fmt: skip


def says(app: AppTest, text: str) -> None:
    assert not app.exception
    assert [error.value for error in app.error] == ["This page cannot go on:"]
    assert text in words(app)


@pytest.mark.parametrize("page", [*VIEWS, "pages/0_Start.py"])
def test_a_run_root_that_may_not_be_listed(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    listed = pathlib.Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path == tmp_path:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(pathlib.Path, "iterdir", iterdir)
    says(open_page(page, root=tmp_path), f"{tmp_path}: cannot list the runs")


@pytest.mark.parametrize("page", [page for page in VIEWS if page != "app.py"])
def test_a_run_that_vanishes_between_two_looks(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Any
) -> None:
    monkeypatch.setattr(frame, "run_names", lambda root: ["gone"])
    says(open_page(page, root=tmp_path), "gone")


@pytest.mark.parametrize(("table", "page"), [(table, page) for table, pages in READ.items() for page in pages])
def test_a_damaged_table(open_page: Callable[..., AppTest], tmp_path: Path, table: Any, page: Any) -> None:
    run = write_run(tmp_path, "normal")
    write_run(tmp_path, "normal", "other")
    next(run.rglob(f"{table}.parquet")).write_bytes(b"not parquet")
    says(open_page(page, root=tmp_path, run="normal"), f"{table}.parquet is not a readable table")


def test_a_second_run_that_cannot_be_read(open_page: Callable[..., AppTest], tmp_path: Path) -> None:
    write_run(tmp_path, "normal")
    other = write_run(tmp_path, "normal", "other")
    (other / "tables" / "matrices.parquet").write_bytes(b"")
    says(open_page("pages/7_Two_runs.py", root=tmp_path, run="normal"), "matrices.parquet is not a readable table")


def test_a_folder_of_jobs_that_may_not_be_written(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "empty", "half")
    monkeypatch.setattr(jobs, "_start", lambda *call: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    app = open_page("pages/0_Start.py", root=tmp_path)
    next(button for button in app.button if button.label == "Resume").click().run()
    says(app, "cannot start a job there (Permission denied)")


def test_a_job_at_work_whose_root_vanishes(
    open_page: Callable[..., AppTest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live part of a page runs again without the page."""
    run = write_run(tmp_path, "empty", "half")
    with open_run(run).store.lock():
        looked = run_jobs.entries
        seen = []

        def entries(root: Path) -> list[Entry]:
            seen.append(root)
            if len(seen) > 1:
                raise OSError(5, "Input/output error", str(root))
            return looked(root)

        monkeypatch.setattr(run_jobs, "entries", entries)
        says(open_page("pages/0_Start.py", root=tmp_path), "Input/output error")


def test_a_report_that_cannot_be_written_says_so_in_its_file(tmp_path: Path) -> None:
    run = open_run(write_run(tmp_path, "normal", NASTY.replace("/", "")))
    (run.path / "tables" / "pairs.parquet").write_bytes(b"not parquet")
    said = downloads._report(run).decode()
    assert "is not a readable table" in said
    assert "<b>" not in said


def test_every_page_is_a_block_that_says_what_it_cannot_read() -> None:
    checkout = pathlib.Path(__file__).parents[2]
    for page in PAGES:
        assert re.search(r"^ *with (frame\.frame|page\.open_page)\(", (FOLDER / page).read_text(), re.M), page
        assert "run_page(__file__)" in (checkout / page).read_text(), page
