"""The conflict map plays by itself and leaves the rest of the page alone."""

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.browser.conftest import Server
from tests.browser.test_explore import PAGES, drawn


def test_steps_move_on_by_themselves(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{server.url}/Conflict?run=normal&step=5")
    drawn(page, PAGES["Conflict"])
    page.get_by_text("Play the steps").click()
    page.wait_for_function(
        "count => document.querySelectorAll('.js-plotly-plot').length >= count", arg=PAGES["Conflict"] + 1
    )
    page.wait_for_function(
        """() => {
            const shown = document.body.innerText.match(/Step (\\d) of 6/);
            window.seen = (window.seen ?? new Set()).add(shown?.[1]);
            return [2, 3, 4].every(step => window.seen.has(String(step)));
        }""",
        timeout=60_000,
    )
    expect(page.get_by_role("slider", name="Step").first).to_have_value("5")
    page.get_by_text("Play the steps").click()
    drawn(page, PAGES["Conflict"])
