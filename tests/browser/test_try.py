"""The page Try in a real browser: a typed strength is scored, and the browser's own way back undoes."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import factories_lab
from tests.browser.conftest import Server, serving

LONG_MS = 120_000
"""The first change loads the model on what may be a busy core."""


@pytest.fixture(scope="module")
def lab(root: Path) -> Iterator[Server]:
    factories_lab.mergeable(root)
    with serving(root) as running:
        yield running


def test_changes_are_scored_and_found_again(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.set_default_timeout(LONG_MS)
    page.goto(f"{lab.url}/Try?run=mergeable")
    chosen = page.get_by_test_id("stMetricValue").first
    as_run = chosen.inner_text()

    page.get_by_role("button", name="✕").first.click()
    page.wait_for_url(re.compile("try=1_capital~1_symbol$"))
    expect(page.get_by_text("without past")).to_be_attached(timeout=LONG_MS)  # a cell of the table
    expect(chosen).not_to_have_text(as_run)
    without = chosen.inner_text()

    strength = page.get_by_role("spinbutton", name="Strength of capital")
    strength.fill("0.2")
    strength.press("Enter")
    page.wait_for_url(re.compile("try=0.2_capital~1_symbol$"))
    expect(page.get_by_text("without past; strength of capital 0.2")).to_be_attached(timeout=LONG_MS)

    page.go_back()
    expect(chosen).to_have_text(without)
    expect(strength).to_have_count(1)  # the one before stays until the page is drawn
    expect(strength).to_have_value("1")
    page.get_by_role("button", name="As run").click()
    expect(chosen).to_have_text(as_run)
    expect(page.get_by_test_id("stException")).to_have_count(0)
