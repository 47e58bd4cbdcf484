"""Screenshots of every page: ``python -m tests.browser.screenshots --run-root runs --run lab --out docs/screenshots``.

Needs Chromium. Light and dark, 1440 points wide, as tall as the page up to a limit; the talk in a window of its own.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from gcwm_viz.ui.page import PAGES
from tests.browser.conftest import QUIET, Server

WIDTH, TALLEST = 1440, 2600
TALK_WINDOW = (1280, 720)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-root", type=Path, default=Path("runs"))
    parser.add_argument("--run", default="lab")
    parser.add_argument("--out", type=Path, default=Path("docs/screenshots"))
    parser.add_argument("--matrix", default="layer=3&family=down_proj", help="query parameters of the matrix to show")
    parser.add_argument("--question", default="task=capital&split=dev&example=2", help="query parameters of Ask")
    parser.add_argument("--variant", default="1_past~1_capital~1_index~1_symbol~1_close~~0.9_eta", help="link of Try")
    parser.add_argument("--step", type=int, default=3, help="step to show on Where; its losses are split")
    parser.add_argument("--schemes", nargs="+", default=["light", "dark"], choices=["light", "dark"])
    parser.add_argument("--pages", nargs="+", default=list(PAGES.values()), help="names of pages [all]")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    server = Server(options.run_root.resolve())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=[*QUIET.split(), "--no-first-run"]
            )
            for scheme in options.schemes:
                page = browser.new_page(color_scheme=scheme, viewport={"width": WIDTH, "height": TALLEST})
                page.set_default_timeout(120_000)
                for name in options.pages:
                    path = "" if name == "Overview" else name.replace(" ", "_")
                    file = options.out / f"{name.lower().replace(' ', '-')}-{scheme}.png"
                    if name == "Start":
                        page.goto(f"{server.url}/{path}")
                        _fill_from_lab(page)
                        _capture(page, file)
                        continue
                    if name == "Ask":
                        page.goto(f"{server.url}/{path}?run={options.run}&{options.question}")
                        page.get_by_text("Shade = probability").wait_for()
                        _capture(page, file)
                        continue
                    if name == "Try":
                        page.goto(f"{server.url}/{path}?run={options.run}&try={options.variant}")
                        page.get_by_text("Change", exact=True).wait_for()
                        _settle(page)
                        _capture(page, file)
                        continue
                    if name == "Where":
                        page.goto(f"{server.url}/{path}?run={options.run}&step={options.step}")
                        _settle(page)
                        _undo_the_worst(page)
                        _capture(page, file)
                        continue
                    if name == "Talk":
                        talk = browser.new_page(
                            color_scheme=scheme, viewport={"width": TALK_WINDOW[0], "height": TALK_WINDOW[1]}
                        )
                        talk.set_default_timeout(120_000)
                        talk.goto(f"{server.url}/{path}?run={options.run}")
                        _give_the_talk(talk, options.out, scheme)
                        talk.close()
                        continue
                    page.goto(f"{server.url}/{path}?run={options.run}&{options.matrix}")
                    _settle(page)
                    _capture(page, file)
            browser.close()
    finally:
        server.stop()


def _fill_from_lab(page: Any) -> None:
    """The Start page with the lab's inputs, checked."""
    page.get_by_text("Fill this in from the lab").click()
    page.get_by_role("button", name="Use the lab's inputs").click()
    page.locator("input[aria-label='Name of update 3']").wait_for()
    page.get_by_text("Fill this in from the lab").click()
    page.get_by_role("button", name="Check", exact=True).click()
    page.get_by_text("Matrices to merge").wait_for()
    page.mouse.move(0, 0)  # no tooltip in the picture
    page.wait_for_timeout(1500)


def _undo_the_worst(page: Any) -> None:
    page.get_by_role("button", name="Choose the 5 worst").click()
    page.locator("button:not([disabled])", has_text="Undo these").click()
    page.get_by_text("Undoing 5 of").wait_for()
    _settle(page)


def _give_the_talk(page: Any, out: Path, scheme: str) -> None:
    """Every screen, turned with the arrow key; on the one that undoes, after it was pressed."""
    number = 0
    while True:
        number += 1
        page.wait_for_timeout(1000)
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        if page.locator(".st-key-talk-undo").count():
            page.keyboard.press("u")
            page.get_by_text("Undoing").wait_for()
            page.wait_for_timeout(1000)
        _shoot(page, out / f"talk-{number}-{scheme}.png")
        if not page.get_by_role("button", name="Next").is_enabled():
            return
        page.keyboard.press("ArrowRight")


def _settle(page: Any) -> None:
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
    page.wait_for_function(
        "[...document.querySelectorAll('.js-plotly-plot')].every(plot => plot._fullLayout?._size)"
        " && document.querySelectorAll('.js-plotly-plot').length > 0"
    )
    page.wait_for_timeout(1500)  # tables fade in


def _capture(page: Any, path: Path) -> None:
    bottom = page.evaluate(
        "Math.max(...[...document.querySelectorAll('[data-testid=stMainBlockContainer] > div > *')]"
        ".map(part => part.getBoundingClientRect().bottom))"
    )
    height = min(int(bottom) + 48, TALLEST)
    _shoot(page, path, clip={"x": 0, "y": 0, "width": WIDTH, "height": height})


def _shoot(page: Any, path: Path, **part: Any) -> None:
    page.screenshot(path=path, **part)
    with Image.open(path) as image:  # half the bytes, and no difference that an eye sees
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
