"""The lab run starts by itself, once for all windows, and can be cancelled; a new server finds it again."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Server


@pytest.fixture
def fresh(tmp_path: Path, chromium: Browser) -> Iterator[Server]:
    running = Server(tmp_path / "runs")
    yield running
    running.stop()


def test_two_windows_one_job(fresh: Server, window: Callable[[], Page]) -> None:
    first, second = window(), window()
    for page in (first, second):
        page.goto(fresh.url)
    for page in (first, second):
        expect(page.get_by_role("heading", name="Computing the lab run")).to_be_visible()
    state = fresh.root / ".jobs" / "lab" / "state.json"
    child = json.loads(state.read_text()).get("child")

    fresh.stop()
    fresh.start()
    first.goto(fresh.url)
    expect(first.get_by_role("heading", name="Computing the lab run")).to_be_visible()
    assert child in (None, json.loads(state.read_text())["child"])

    first.get_by_role("button", name="Cancel").click()
    second.goto(fresh.url)
    for page in (first, second):
        expect(page.get_by_text("The lab run was cancelled")).to_be_visible(timeout=30_000)
    expect(first.get_by_role("button", name="Start it again")).to_be_visible()
