"""From the forgetting bar of a task to its lost examples, and to every state's answer to one of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from gcwm_viz.runs.examples import FORGOTTEN, example_table
from gcwm_viz.runs.tables import open_run
from tests.browser.conftest import Server, serving
from tests.browser.test_explore import drawn, has_selected
from tests.factories_flips import write_flips

HEADER, ROW = 36, 35
"""Heights in pixels of the parts of a table."""


@pytest.fixture(scope="module")
def flips(root: Path) -> Iterator[Server]:
    write_flips(root)
    with serving(root) as running:
        yield running


def click_row(page: Page, row: int) -> None:
    """A click in the middle of a row, not on its box."""
    table = page.get_by_test_id("stDataFrame")
    table.scroll_into_view_if_needed()
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 3, box["y"] + HEADER + ROW * (row + 0.5))


def answers(page: Page) -> Locator:
    return page.get_by_test_id("stHtml").locator("table")


def test_from_the_bar_to_the_answers_of_a_lost_example(flips: Server, window: Callable[[], Page]) -> None:
    table = example_table(open_run(flips.root / "flips"), "test").query("task == 'first'")
    lost = table[table["status_3"].isin(FORGOTTEN)]["example"].tolist()
    page = window()
    # Filters of an earlier visit do not come back.
    page.goto(f"{flips.url}/Examples?run=flips&step=3&status=kept&search=zzz")
    drawn(page, 1)
    page.get_by_test_id("stSidebar").get_by_role("link", name="Scores").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Scores")
    drawn(page, 5)
    bar = page.locator(".js-plotly-plot", has_text="Forgetting by task").locator(".barlayer .point").first
    bar.scroll_into_view_if_needed()
    page.wait_for_timeout(300)  # the page may still be moving under the pointer
    box = bar.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.get_by_role("heading", level=1)).to_have_text("Examples")
    drawn(page, 1)
    has_selected(page, run="flips", step="3", task="first")
    expect(page.get_by_role("searchbox", name="Search")).to_have_value("")
    expect(page.get_by_text(f"{len(lost)} shown;")).to_be_visible()

    click_row(page, 1)
    expect(page.get_by_role("heading", level=2)).to_have_text(f"first, example {lost[1]}")
    has_selected(page, example=f"first:{lost[1]}")
    expect(answers(page).get_by_role("rowheader")).to_have_text(
        ["base", "expert of first", "step 1 · first", "step 2 · second", "step 3 · third"]
    )
    expect(answers(page).locator("tr").last).to_contain_text("%")
    expect(answers(page).locator("tr").last).to_contain_text("lost")
    click_row(page, 2)
    expect(page.get_by_role("heading", level=2)).to_have_text(f"first, example {lost[2]}")

    page.reload()  # the address is a link to this example
    expect(page.get_by_role("heading", level=2)).to_have_text(f"first, example {lost[2]}")
    expect(answers(page).locator("tr").last).to_contain_text("%")
    page.go_back()
    expect(page.get_by_role("heading", level=2)).to_have_text(f"first, example {lost[1]}")
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_the_same_by_keyboard(flips: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{flips.url}/Scores?run=flips&step=3")
    drawn(page, 5)
    page.get_by_test_id("stMain").get_by_role("link", name="second").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Examples")
    has_selected(page, task="second", step="3")
    expect(page.get_by_text("0 shown; 6 more with another status")).to_be_visible()
    page.get_by_role("button", name="never right").click()
    expect(page.get_by_text("6 shown")).to_be_visible()


def test_hostile_texts_are_drawn_as_text(flips: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{flips.url}/Examples?run=flips&task=first&status=&example=first:3")
    expect(answers(page).locator("tr").last).to_contain_text("%")
    assert page.locator("[data-testid=stMain] img[src=x]").count() == 0
    expect(page.get_by_test_id("stCode").first).to_contain_text("<img src=x onerror=p=1>")
    expect(answers(page)).to_contain_text("<b>3</b>")
