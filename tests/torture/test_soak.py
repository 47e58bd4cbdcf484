"""Many page loads and job starts from several browsers: memory flat, no zombie, no lock left behind."""

import fcntl
import gc
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from gcwm_viz.jobs import jobs
from gcwm_viz.ui.page import PAGES
from tests.browser.conftest import Server
from tests.factories_runs import write_run

MEGABYTE = 2**20


def memory(server: Server) -> float:
    return float(psutil.Process(server.process.pid).memory_info().rss / MEGABYTE)


def offspring(server: Server) -> list[psutil.Process]:
    return list(psutil.Process(server.process.pid).children(recursive=True))


def loaded(page: Page) -> None:
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible(timeout=60_000)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_page_loads_and_job_starts(
    tmp_path: Path,
    serve: Callable[..., Server],
    window: Callable[[], Page],
    torture: bool,
    record: Callable[[str, str, str], None],
) -> None:
    root = tmp_path / "runs"
    write_run(root, "normal")
    write_run(root, "one")
    server = serve(root)
    windows = [window() for _ in range(4 if torture else 2)]
    addresses = [f"/{'' if name == 'Overview' else name}" for name in PAGES.values() if name != "Start"]
    # The first look at a page imports what it draws with and reads its tables.
    addresses, warm, wanted = (addresses, 20, 180) if torture else (addresses[:3], 3, 6)
    least = warm + 3  # on a busy machine the clock alone does not end it
    began = time.monotonic()
    loads = 0
    before = 0.0
    while loads < least or (loads < wanted and time.monotonic() - began < 600):
        place = addresses[loads % len(addresses)]
        run = ("normal", "one")[loads // len(addresses) % 2]
        page = windows[loads % len(windows)]
        page.goto(f"{server.url}{place}?run={run}&step=1&layer={loads % 4}")
        loaded(page)
        loads += 1
        if loads == warm:
            before = memory(server)
    grown = memory(server) - before
    assert grown < (60 if torture else 80)
    assert not offspring(server)

    # The fast version leaves job starts in the browser to tests/browser.
    starts = _start_and_cancel(tmp_path / "fresh", serve, window, rounds=20) if torture else 0
    gc.collect()
    record(
        "Soak of the app",
        f"{loads} page loads in {len(windows)} windows, {starts} job starts and cancels",
        f"server memory {grown:+.0f} MB over the last {loads - warm} loads; no zombie, no process, no lock left",
    )


def _start_and_cancel(root: Path, serve: Callable[..., Server], window: Callable[[], Page], rounds: int) -> int:
    """The lab run, started by the page and cancelled from another window, again and again."""
    server = serve(root)
    first, second = window(), window()
    first.goto(server.url)
    starts = 0
    end = time.monotonic() + 300
    while starts < rounds and time.monotonic() < end:
        expect(first.get_by_role("heading", name="Computing the lab run")).to_be_visible(timeout=60_000)
        starts += 1
        second.goto(server.url)
        second.get_by_role("button", name="Cancel").click()
        expect(second.get_by_text("The lab run was cancelled")).to_be_visible(timeout=60_000)
        shutil.rmtree(root / "lab", ignore_errors=True)  # what is finished is kept, and would end the run before long
        first.goto(server.url)
        again = first.get_by_role("button", name="Start it again")
        expect(again).to_be_visible(timeout=60_000)
        if starts < rounds and time.monotonic() < end:
            again.click()
    until = time.monotonic() + 15
    while offspring(server) and time.monotonic() < until:
        first.goto(server.url)  # a look at the job takes leave of its worker
        loaded(first)
        time.sleep(0.2)
    assert not offspring(server), "a process or a zombie is left"
    with (root / ".jobs" / "lab" / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert starts
    return starts


def test_a_thousand_looks_open_nothing(tmp_path: Path) -> None:
    """Looking at a job leaves no file open."""
    process = psutil.Process()
    (tmp_path / ".jobs" / "job").mkdir(parents=True)
    (tmp_path / ".jobs" / "job" / "state.json").write_text('{"status": "running"}')
    before = process.num_fds()
    for _ in range(1000):
        assert jobs.look(tmp_path, "job").status == "died"
    assert process.num_fds() == before


def test_an_ended_worker_is_no_zombie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One look after the end, and the process table is clean."""
    assert jobs.start(tmp_path, "job", ["methods"])
    until = time.monotonic() + 60
    while jobs.look(tmp_path, "job").status == "running" and time.monotonic() < until:
        time.sleep(0.05)
    assert jobs.look(tmp_path, "job").status == "finished"
    while time.monotonic() < until:
        jobs.look(tmp_path, "job")
        if not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]:
            return
        time.sleep(0.05)
    pytest.fail("a zombie is left")
