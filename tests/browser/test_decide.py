"""The page Decide in a real browser: the forecast is computed, follows a choice at once, is measured and downloaded."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from gcwm_viz.continual.plan_file import RunPlan, parse_plan
from gcwm_viz.decide.plans import measure
from gcwm_viz.runs.tables import open_run
from tests import factories_lab
from tests.browser.conftest import Server, serving
from tests.browser.test_selection import ended


@pytest.fixture(scope="module")
def lab(root: Path) -> Iterator[Server]:
    factories_lab.mergeable(root)
    with serving(root) as running:
        yield running


def downloaded(page: Page) -> RunPlan:
    ended(page, "Decide")  # the button comes after the figures that a choice changes
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download the plan").click()
    file = Path(waiting.value.path())
    assert waiting.value.suggested_filename == "plan.yaml"
    return parse_plan(file.read_bytes(), "download", file.parent)


def number(page: Page, label: str) -> Locator:
    """The value of one of the figures of the chosen plan."""
    return page.get_by_test_id("stMetric").filter(has_text=re.compile(f"^{label}")).get_by_test_id("stMetricValue")


def take(page: Page, update: str, part: str) -> None:
    control = page.get_by_test_id("stButtonGroup").filter(has_text=re.compile(f"^{update}"))
    control.get_by_text(part, exact=True).click()


def test_a_forecast_is_computed_chosen_from_measured_and_downloaded(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{lab.url}/Decide?run=mergeable")
    ended(page, "Decide")
    page.get_by_role("button", name="Compute the forecast").click()
    # The job starts Python and loads the model on what may be a busy core.
    expect(page.get_by_text(re.compile("^Recommended: "))).to_be_visible(timeout=180_000)
    expect(page.get_by_text("How trustworthy is this?")).to_be_visible()

    for update, part in (("past", "1"), ("capital", "1"), ("symbol", "⅓")):
        take(page, update, part)
    expect(page.get_by_text("everything, but ⅓ of symbol", exact=True)).to_be_visible()
    before = number(page, "Expected").inner_text()
    take(page, "symbol", "0")
    expect(number(page, "Expected")).not_to_have_text(before)
    expect(page.get_by_text("everything but symbol", exact=True)).to_be_visible()
    assert [name for name, _ in downloaded(page).updates] == ["past", "capital"]

    page.get_by_role("button", name="Take the recommended plan").click()
    expect(page.get_by_role("button", name="Take the recommended plan")).to_have_count(0)
    for update, part in (("past", "⅓"), ("capital", "0"), ("symbol", "1")):
        take(page, update, part)
    expect(page.get_by_text("symbol and ⅓ of past", exact=True)).to_be_visible()
    page.get_by_role("button", name="Measure it").click()
    expect(number(page, "Measured")).to_be_visible(timeout=60_000)
    plan = downloaded(page)
    assert ([name for name, _ in plan.updates], plan.strengths) == (["past", "symbol"], {"past": 0.333333})

    # It scored what the command does, and the choice stays, whatever is recommended now.
    run = open_run(lab.root / "mergeable")
    table = run.tables["plans"].query("split == 'dev' and metric == 'em'")
    assert number(page, "Measured").inner_text() == f"{table['value'].mean():.3f}"
    again = measure(run.path, [{"past": 1 / 3, "symbol": 1.0}], workers=1)
    assert len(again) == len(run.tables["plans"])
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_plan_is_measured_where_there_is_no_forecast(server: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{server.url}/Decide?run=normal&step=4")
    ended(page, "Decide")
    expect(number(page, "Measured")).to_be_visible()
    take(page, "capital", "0")
    expect(page.get_by_text("everything but capital", exact=True)).to_be_visible()
    expect(page.get_by_text("both measured")).to_be_visible()  # by leave-one-out
    assert [name for name, _ in downloaded(page).updates] == ["past", "index", "symbol", "close", "eval"]
    take(page, "past", "0")
    expect(page.get_by_text("everything but past and capital", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Measure it")).to_be_disabled()
