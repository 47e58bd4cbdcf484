"""From the start to the answer: what a researcher and a decider come for, each within a few clicks. The speaker's way
through the talk is in test_talk."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from gcwm_viz.attribution.attribute import attribute
from gcwm_viz.cli import main
from tests import factories_lab
from tests.browser.conftest import Server, serving
from tests.browser.test_selection import ended

CANDIDATES = ("past", "capital", "index", "symbol", "close", "eval")


class Reader:
    """Counts the clicks."""

    def __init__(self, page: Page) -> None:
        self.page, self.clicks = page, 0

    def click(self, target: Locator) -> None:
        expect(target).to_be_enabled()
        target.click()
        self.clicks += 1

    def follow(self, link: str, title: str) -> None:
        self.click(self.page.get_by_role("link", name=link))
        ended(self.page, title)


@pytest.fixture(scope="module")
def lab(root: Path) -> Iterator[Server]:
    attribute(factories_lab.forgetting(root).path, workers=1)
    factories_lab.mergeable(root, examples=4, updates=CANDIDATES)
    with serving(root) as running:
        yield running


def test_which_matrices_cost_a_task_what_it_knew(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    reader = Reader(page)
    page.goto(f"{lab.url}/?run=forgetting")
    ended(page, "Overview")
    task = factories_lab.most_forgotten(lab.root / "forgetting")
    expect(page.get_by_text(re.compile(f"raised the loss of {task} most"))).to_be_visible()
    reader.follow("See them, and undo it →", "Where")
    expect(page.get_by_text(f"{task} · step 3 → 4").first).to_be_visible()
    reader.click(page.get_by_role("button", name="Choose the 5 worst"))
    reader.click(page.get_by_role("button", name="Undo these"))
    expect(page.get_by_text(re.compile("Undoing 5 of 28 matrices takes back"))).to_be_visible(timeout=60_000)
    assert reader.clicks <= 3


def test_from_a_forgotten_task_to_its_lost_examples_to_the_matrices(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    reader = Reader(page)
    page.goto(f"{lab.url}/?run=forgetting")
    ended(page, "Overview")
    reader.follow("Its lost examples →", "Examples")
    task = page.url.split("task=")[1].split("&")[0]
    expect(page.get_by_role("heading", name=re.compile(f"^{task}, example"))).to_be_visible()
    reader.follow("Which matrices did it →", "Where")
    expect(page.get_by_text(re.compile(f"^{task} · step")).first).to_be_visible()
    assert reader.clicks <= 2


def test_from_six_candidates_to_a_plan_that_run_accepts(
    lab: Server, window: Callable[[], Page], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = window()
    reader = Reader(page)
    page.goto(f"{lab.url}/?run=mergeable")
    ended(page, "Overview")
    reader.follow("Forecast it →", "Decide")
    reader.click(page.get_by_role("button", name="Compute the forecast"))
    # The job starts Python and loads the model on what may be a busy core.
    expect(page.get_by_text(re.compile("^Recommended: "))).to_be_visible(timeout=240_000)
    ended(page, "Decide")
    with page.expect_download() as waiting:
        reader.click(page.get_by_role("button", name="Download the plan"))
    plan = tmp_path / "plan.yaml"
    waiting.value.save_as(plan)
    assert reader.clicks <= 3
    assert main(["check", "--plan", str(plan)]) == 0
    assert "Nothing" not in capsys.readouterr().err
