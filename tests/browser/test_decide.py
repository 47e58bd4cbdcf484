"""The decision page in a real browser: a plan downloads and follows the tick boxes."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from gcwm_viz.continual.plan_file import parse_plan
from tests.browser.conftest import Server
from tests.browser.test_explore import drawn


def downloaded(page: Page) -> list[str]:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the plan").click()
    file = Path(waiting.value.path())
    assert waiting.value.suggested_filename == "plan.yaml"
    return [name for name, _ in parse_plan(file.read_bytes(), "download", file.parent).updates]


def test_plan_downloads_as_ticked(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{server.url}/Decide?run=normal&step=4")
    drawn(page, 7)
    expect(page.get_by_role("heading", name="Why: symbol")).to_be_visible()
    assert downloaded(page) == ["past", "capital", "index", "symbol", "close", "eval"]
    page.get_by_test_id("stCheckbox").filter(has_text="capital").locator("label").click()
    expect(page.get_by_text("Measured for exactly these updates (leave-one-out)")).to_be_visible()
    assert downloaded(page) == ["past", "index", "symbol", "close", "eval"]
