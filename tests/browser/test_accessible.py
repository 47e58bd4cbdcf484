"""Everyone can read it: every page, by a cold link, without serious findings of axe-core, in light and dark, and
without a horizontal scroll of the page in narrow windows; the keyboard goes through it in the order of reading."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from gcwm_viz.ui.page import PAGES, SECTIONS
from tests.browser.conftest import Server
from tests.browser.test_explore import PAGES as CHARTS
from tests.browser.test_explore import STUDY_PAGES, cell_centre, drawn
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
def test_a_cold_link_is_drawn_whole_axe_finds_nothing_serious_and_narrow_windows_do_not_scroll_sideways(
    server: Server, window: Callable[[], Page], name: str
) -> None:
    """A new visitor, who opens this page at once; it asks nothing of any other host."""
    page, place = window(), address(name)
    page.set_default_timeout(60_000)  # what is drawn anew for a width may wait for another test's browser
    foreign, errors = [], []
    page.on("request", lambda request: foreign.append(request.url) if not request.url.startswith(server.url) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    measured = "&target=forgetting" if place in STUDY_PAGES else ""
    page.goto(f"{server.url}/{place}?run=normal&step=3&layer=2&family=o_proj{measured}")
    ended(page, name)
    expect(page.get_by_test_id("stException")).to_have_count(0)
    if place in CHARTS | STUDY_PAGES:
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        drawn(page, (CHARTS | STUDY_PAGES)[place])
    if place in CHARTS:
        expect(page.get_by_role("slider", name="Step")).to_have_value("3")
    if place in STUDY_PAGES:
        expect(page.get_by_role("combobox", name="What is measured")).to_have_value("forgetting")
    assert findings(page) == []
    page.emulate_media(color_scheme="dark")
    assert findings(page) == []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => document.documentElement.clientWidth <= width", arg=width)
        page.wait_for_function(  # once the charts have followed the window
            "() => { const main = document.querySelector('[data-testid=stMain]');"
            " return Math.max(document.documentElement.scrollWidth - document.documentElement.clientWidth,"
            " main.scrollWidth - main.clientWidth) <= 1; }"
        )
    assert not [url for url in foreign if url.startswith(("http", "ws")) and f"localhost:{server.port}" not in url]
    assert not errors


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
    for _ in range(3):  # a part that scrolls takes the focus in between
        if page.evaluate("document.activeElement.ariaLabel") == "Run":
            break
        page.keyboard.press("Tab")
    expect(page.get_by_role("combobox", name="Run")).to_be_focused()


@pytest.mark.parametrize(
    ("signal", "name", "deficiencies"),
    [
        ("active_conflict", "Active conflict", ("protanopia", "deuteranopia", "tritanopia", "achromatopsia")),
        # Without any colour the two dark ends of a diverging scale are alike; the number of a cell tells them apart.
        ("state_gap", "State gap", ("protanopia", "deuteranopia", "tritanopia")),
    ],
)
def test_the_ends_of_a_map_differ_for_every_colour_vision(
    server: Server, window: Callable[[], Page], signal: str, name: str, deficiencies: tuple[str, ...]
) -> None:
    """Chromium simulates each deficiency; 60 of 255 in one channel is a difference that nobody overlooks."""
    page = window()
    page.goto(f"{server.url}/Conflict?run=normal&step=4&signal={signal}&colours=fit+to+run")
    ended(page, "Conflict")
    expect(page.get_by_text(name).first).to_be_visible()
    z = page.evaluate(
        "document.querySelector('.js-plotly-plot').calcdata.map(trace => trace[0].z).find(Boolean)"
        ".map(row => Array.from(row))"
    )
    order = sorted((value, row, column) for row, values in enumerate(z) for column, value in enumerate(values))
    cells = [cell_centre(page, 0, row, column) for _, row, column in (order[0], order[-1])]
    session = page.context.new_cdp_session(page)
    for deficiency in deficiencies:
        session.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
        with Image.open(io.BytesIO(page.screenshot())) as picture:
            low, high = (
                np.array(picture.convert("RGB").getpixel((int(x) + 12, int(y) + 12)), dtype=float) for x, y in cells
            )
        assert np.abs(low - high).max() > 60, f"{deficiency}: {low} and {high}"
