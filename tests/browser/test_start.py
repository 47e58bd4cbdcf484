"""A run started, cancelled, resumed and finished from the page, its server killed in between."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from gcwm_viz.continual.plan_file import RunPlan
from gcwm_viz.continual.store import RunStore
from tests.browser.conftest import Server
from tests.continual.inputs import write_base, write_updates

SLOW = 8000
"""Iterations of Adam: some ten seconds of work in eight matrices, long enough to be cancelled."""


@pytest.fixture
def fresh(tmp_path: Path, chromium: Browser) -> Iterator[Server]:
    root = tmp_path / "runs"
    write_base(root / "inputs" / "base")
    write_updates(root / "inputs" / "updates", "ab")
    running = Server(root)
    yield running
    running.stop()


def test_start_cancel_resume_finish(fresh: Server, window: Callable[[], Page], tmp_path: Path) -> None:
    inputs = fresh.root / "inputs"
    plan = RunPlan(
        base=inputs / "base",
        updates=tuple((name, inputs / "updates" / name) for name in "ab"),
        preset="paper",
        settings={"iters": SLOW},
    )
    file = tmp_path / "plan.yaml"
    file.write_text(plan.to_yaml())

    page, other = window(), window()
    page.goto(f"{fresh.url}/Start")
    expect(page.get_by_role("button", name="Start the run")).to_be_disabled(timeout=120_000)
    page.get_by_text("Fill this in from the lab").click()
    page.locator("input[type=file]").set_input_files(file)
    expect(page.get_by_role("textbox", name="Name of update 2")).to_have_value("b")
    page.get_by_role("button", name="Up", exact=True).nth(1).click()
    expect(page.get_by_role("textbox", name="Name of update 1")).to_have_value("b")
    page.get_by_role("button", name="Check", exact=True).click()
    expect(page.get_by_text("Matrices to merge")).to_be_visible(timeout=120_000)
    page.get_by_role("textbox", name="Name of the run").fill("mine")
    page.get_by_role("textbox", name="Name of the run").press("Enter")
    page.get_by_role("button", name="Start the run").click()
    expect(page.get_by_role("heading", name="At work")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("of 8 matrices merged").first).to_be_visible(timeout=120_000)
    child = json.loads((fresh.root / ".jobs" / "mine" / "state.json").read_text())["child"]
    os.kill(child, signal.SIGSTOP)  # a fast machine must not finish it meanwhile

    fresh.stop()
    fresh.start()
    for view in (page, other):
        view.goto(f"{fresh.url}/Start")
        expect(view.get_by_role("heading", name="At work")).to_be_visible(timeout=60_000)
    assert json.loads((fresh.root / ".jobs" / "mine" / "state.json").read_text())["child"] == child

    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Stopping…")).to_be_visible()
    os.kill(child, signal.SIGCONT)
    for view in (page, other):
        expect(view.get_by_text("This run was cancelled. What it finished is kept.")).to_be_visible(timeout=120_000)
    kept = len(RunStore.open(fresh.root / "mine").finished())
    assert 0 < kept < 8

    other.reload()
    other.get_by_role("button", name="Resume").click()
    expect(other.get_by_role("heading", name="At work")).to_be_visible(timeout=60_000)
    expect(other.get_by_role("link", name="Open →")).to_be_visible(timeout=300_000)
    done = RunStore.open(fresh.root / "mine")
    assert done.updates == ["b", "a"]
    assert done.status() == "complete"
    assert len([entry for entry in done.journal() if entry["event"] == "start"]) == 2
    other.get_by_role("link", name="Open →").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Overview")
