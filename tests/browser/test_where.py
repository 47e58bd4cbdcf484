"""Where forgetting is: the losses are split, the worst cells undone, and the score rises."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import factories_lab
from tests.browser.conftest import Server
from tests.browser.test_selection import ended


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Server]:
    root: Path = tmp_path_factory.mktemp("runs")
    factories_lab.forgetting(root)
    running = Server(root)
    yield running
    running.stop()


def test_the_five_worst_cells_are_undone_and_the_score_rises(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{lab.url}/Where?run=forgetting&step=4")
    ended(page, "Where")
    page.get_by_role("button", name="Split the losses").click()
    # The job starts Python and loads the model on what may be a busy core.
    expect(page.get_by_text(re.compile("· step 3 → 4")).first).to_be_visible(timeout=180_000)
    forgotten = factories_lab.most_forgotten(lab.root / "forgetting")
    expect(page.get_by_text(f"{forgotten} · step 3 → 4").first).to_be_visible()

    page.get_by_role("button", name="Choose the 5 worst").click()
    undone = page.get_by_role("button", name="Undo these")
    expect(undone).to_be_enabled()
    undone.click()
    sentence = page.get_by_text(re.compile(r"Undoing 5 of 28 matrices takes back"))
    expect(sentence).to_be_visible(timeout=60_000)
    moved = re.search(rf"{forgotten} ([\d.]+) → ([\d.]+) \(better by", sentence.inner_text())
    assert moved, sentence.inner_text()
    assert float(moved[2]) > float(moved[1])

    # A click on a cell of the map adds it to the choice: 28 markers, the last trace of the first chart.
    chips = page.get_by_test_id("stMultiSelect").locator("[data-baseweb=tag]")
    expect(chips).to_have_count(5)
    plot = page.get_by_test_id("stPlotlyChart").first
    box = plot.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.5 / 7, box["y"] + box["height"] * 3.5 / 4)  # layer 3, q
    expect(chips).not_to_have_count(5)
    expect(page.get_by_text("Not scored yet")).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
