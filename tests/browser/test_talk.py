"""The whole talk with nothing but keys, in the windows of two projectors: every screen fits."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gcwm_viz.attribution.attribute import attribute
from tests import factories_lab
from tests.browser.conftest import Server, serving
from tests.browser.test_selection import ended

SIZES = [(1920, 1080), (1280, 720)]
STORY = ["Question", "Forgetting", "Place", "Undo", "After"]


@pytest.fixture(scope="module")
def lab(root: Path) -> Iterator[Server]:
    attribute(factories_lab.forgetting(root, examples=6).path, step=4, workers=1)
    with serving(root) as running:
        yield running


def turned(page: Page, screen: str) -> None:
    """Wait until the screen of this name is drawn; check that it fits: nothing scrolls, neither page nor picture."""
    expect(page.locator(".st-key-talk-screens").get_by_role("button", name=screen)).to_have_attribute(
        "data-testid", "stBaseButton-primary"
    )
    ended(page, "Talk")
    expect(page.get_by_test_id("stException")).to_have_count(0)
    page.wait_for_function("[...document.querySelectorAll('.js-plotly-plot')].every(plot => plot._fullLayout?._size)")
    page.wait_for_function(
        """() => ['[data-testid=stMain]', '.st-key-talk-picture', '.st-key-talk-screens'].every(name => {
            const box = document.querySelector(name)
            return box.scrollHeight <= box.clientHeight && box.scrollWidth <= box.clientWidth
        })"""
    )
    keys = page.locator(".st-key-talk-keys").bounding_box()
    assert keys is not None
    assert keys["y"] + keys["height"] <= page.viewport_size["height"]  # type: ignore[index]


@pytest.mark.parametrize("size", SIZES)
def test_the_talk_by_keys(lab: Server, window: Callable[[], Page], size: tuple[int, int]) -> None:
    page = window()
    page.set_viewport_size({"width": size[0], "height": size[1]})
    embedded = "&embed=true" if size == SIZES[1] else ""
    page.goto(f"{lab.url}/Talk?run=forgetting{embedded}")
    answers = page.locator(".ask-note").filter(has_text="probability")
    expect(answers).to_have_count(6, timeout=120_000)
    turned(page, "Question")
    for screen in STORY[1:]:
        page.keyboard.press("ArrowRight")
        turned(page, screen)
    tall = page.locator(".js-plotly-plot").bounding_box()
    assert tall is not None
    assert tall["height"] > 0.5 * size[1]

    page.keyboard.press(str(STORY.index("Undo") + 1))
    turned(page, "Undo")
    words = page.locator(".st-key-talk-words")
    expect(words).to_contain_text("Step 4, which adds symbol, took")
    page.keyboard.press("u")
    expect(words).to_contain_text(re.compile(r"Undoing \d+ of 28 matrices"), timeout=60_000)
    turned(page, "Undo")
    page.keyboard.press("u")
    expect(words).to_contain_text("What comes back")

    page.keyboard.press("ArrowLeft")
    turned(page, "Place")
    page.keyboard.press("1")
    turned(page, "Question")
    page.keyboard.press("/")
    page.keyboard.type("capital Peru=")  # no digit or letter of it turns a screen
    page.keyboard.press("Enter")
    expect(words).to_contain_text("capital Peru=")
    expect(answers).to_have_count(6, timeout=60_000)
    turned(page, "Question")
    page.keyboard.press("ArrowRight")  # the box has given the keys back
    turned(page, "Forgetting")
    page.reload()
    turned(page, "Forgetting")
    page.keyboard.press("f")
    page.wait_for_function("!!document.fullscreenElement")


def test_focus_is_seen_and_the_way_out_is_reached_by_tab(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    page.goto(f"{lab.url}/Talk?run=forgetting&screen=2")
    turned(page, "Forgetting")
    button = page.get_by_role("button", name="Place")
    before = button.evaluate("it => getComputedStyle(it).boxShadow + getComputedStyle(it).outline")
    for _ in range(12):
        page.keyboard.press("Tab")
        if button.evaluate("it => it === document.activeElement"):
            break
    expect(button).to_be_focused()
    assert button.evaluate("it => getComputedStyle(it).boxShadow + getComputedStyle(it).outline") != before
    page.keyboard.press("Enter")
    turned(page, "Place")
    assert page.evaluate("getComputedStyle(document.querySelector('.st-key-talk')).transitionDuration") == "0s"
    page.get_by_test_id("stExpandSidebarButton").focus()
    page.keyboard.press("Enter")
    page.get_by_test_id("stSidebar").get_by_role("link", name="Overview").focus()
    page.keyboard.press("Enter")
    ended(page, "Overview")


def test_a_chart_is_pinned_and_shown_in_another_window(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{lab.url}/Scores?run=forgetting&step=3")
    ended(page, "Scores")
    page.get_by_text("Formula and data").first.click()
    page.get_by_role("button", name="Pin to the talk").first.click()
    expect(page.get_by_test_id("stToast")).to_contain_text("Pinned to the talk about forgetting")
    title = page.locator(".js-plotly-plot .gtitle").first.text_content()
    other = window()
    other.set_viewport_size({"width": 1280, "height": 720})
    other.goto(f"{lab.url}/Talk?run=forgetting&screen=2")
    turned(other, "Forgetting")
    other.keyboard.press(str(len(STORY) + 1))
    turned(other, "Pin 1")
    expect(other.get_by_role("heading", level=1)).to_have_text(title or "")
    other.get_by_role("link", name="Open it there").click()
    ended(other, "Scores")
    expect(other.get_by_role("slider", name="Step")).to_have_value("3")
