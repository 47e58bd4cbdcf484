"""Everyone can read it: every page without serious findings of axe-core, in light and dark, and without a horizontal
scroll of the page in narrow windows; the keyboard goes through it in the order in which it is read."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from gcwm_viz.ui.frame import PAGES, SECTIONS
from tests.browser.conftest import Server
from tests.browser.test_selection import ended

WIDTHS = (1024, 390)


def address(page: str) -> str:
    return "" if page == "Overview" else page.replace(" ", "_")


def findings(page: Page) -> list[str]:
    """Serious and critical violations, each with the element."""
    axe: Any = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")
    violations = axe.Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.mark.parametrize("name", PAGES.values())
def test_axe_finds_nothing_serious_and_narrow_windows_do_not_scroll_sideways(
    server: Server, window: Callable[[], Page], name: str
) -> None:
    page = window()
    page.goto(f"{server.url}/{address(name)}?run=normal&step=3")
    ended(page, name)
    assert findings(page) == []
    page.emulate_media(color_scheme="dark")
    assert findings(page) == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => document.documentElement.clientWidth <= width", arg=width)
        assert (
            page.evaluate(
                "() => { const main = document.querySelector('[data-testid=stMain]');"
                " return Math.max(document.documentElement.scrollWidth - document.documentElement.clientWidth,"
                " main.scrollWidth - main.clientWidth); }"
            )
            <= 1
        ), f"{name} scrolls sideways at {width} pixels"


def test_the_keyboard_reads_the_navigation_in_order(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{server.url}/?run=normal")
    ended(page, "Overview")
    first = page.get_by_role("link", name="Overview")
    first.focus()
    reached = []
    for _ in PAGES:
        reached.append(page.evaluate("document.activeElement.innerText"))
        page.keyboard.press("Tab")
    assert reached == [name for pages in SECTIONS.values() for name in pages.values()]
    expect(page.get_by_role("combobox", name="Run")).to_be_focused()
