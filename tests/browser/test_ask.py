"""A question typed and a probe that was lost, answered before the reader's eyes."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import factories_lab
from tests.browser.conftest import Server, serving
from tests.browser.test_explore import has_selected
from tests.browser.test_selection import ended


@pytest.fixture(scope="module")
def lab(root: Path) -> Iterator[Server]:
    factories_lab.trained(root)
    with serving(root) as running:
        yield running


def test_a_typed_prompt_and_a_lost_probe(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{lab.url}/Ask?run=trained")
    ended(page, "Ask")
    box = page.get_by_role("textbox", name="Prompt")
    box.fill("capital Egypt=")
    box.press("Enter")
    answers, notes = page.locator(".ask-said"), page.locator(".ask-note")
    expect(notes.filter(has_text="probability")).to_have_count(6, timeout=60_000)
    expect(answers.nth(3)).to_contain_text("Cairo")
    has_selected(page, prompt="capital Egypt=")
    hint = answers.nth(3).locator("span[title]").first.get_attribute("title")
    assert re.fullmatch(r"probability [\d.]+ %, −log p = [\d.e-]+ nats", hint or "")

    page.get_by_role("button", name="A forgotten one").click()
    sentence = page.locator(".st-key-ask-sentence")
    expect(sentence).to_contain_text(re.compile(r"Right after steps 2 and 3, lost at step 4, which adds symbol\."))
    has_selected(page, task="capital", split="dev")
    expect(notes.last).to_contain_text("lost here")
    taken = page.url
    page.go_back()
    has_selected(page, prompt="capital Egypt=")
    expect(box).to_have_value("capital Egypt=")
    page.goto(taken)
    expect(sentence).to_contain_text("lost at step 4")
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_hostile_text_shows_as_it_is(lab: Server, window: Callable[[], Page]) -> None:
    page = window()
    page.goto(f"{lab.url}/Ask?run=trained&task=capital&split=dev&example=4")
    ended(page, "Ask")
    expect(page.get_by_role("textbox", name="Prompt")).to_have_value(factories_lab.HOSTILE)
    page.goto(f"{lab.url}/Ask?run=trained&task=capital&split=dev&example=3")
    expect(page.locator(".st-key-ask-sentence")).to_contain_text("Expected: <b>$x$*.")
    expect(page.locator(".st-key-ask-sentence .katex")).to_have_count(0)
