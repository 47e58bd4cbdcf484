"""Where forgetting is: the losses are split, the worst cells undone, and the score rises."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gcwm_viz.runs.highlights import scored
from gcwm_viz.runs.tables import open_run
from tests import factories_lab
from tests.browser.conftest import Server, serving
from tests.browser.test_selection import ended


@pytest.fixture(scope="module")
def lab(root: Path) -> Iterator[Server]:
    factories_lab.forgetting(root)
    with serving(root) as running:
        yield running


def test_the_five_worst_cells_are_undone_and_the_score_rises(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{lab.url}/Where?run=forgetting&step=4")
    ended(page, "Where")
    page.get_by_role("button", name="Split the losses").click()
    # The job starts Python and loads the model on what may be a busy core.
    expect(page.get_by_text(re.compile("· step 3 → 4")).first).to_be_visible(timeout=180_000)
    lost = scored(open_run(lab.root / "forgetting"), "dev")
    assert lost is not None
    forgotten = str((lost.R.loc[3] - lost.R.loc[4]).idxmax())
    page.get_by_role("combobox", name=re.compile("Task")).click()
    page.get_by_role("option", name=re.compile(f"^{forgotten}")).click()
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

    # A click on a cell of the map puts it into the choice, or takes it out again.
    chosen = page.get_by_test_id("stMultiSelect")
    was_chosen = "3 q" in chosen.inner_text()
    box = page.get_by_test_id("stPlotlyChart").first.locator(".nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.5 / 7, box["y"] + box["height"] * 3.5 / 4)  # layer 3, q
    (expect(chosen).not_to_contain_text if was_chosen else expect(chosen).to_contain_text)("3 q")
    expect(page.get_by_text("Not scored yet")).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
