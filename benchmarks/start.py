"""What a newcomer waits for: the command line's start, and the first visit to the app on an empty run root.

The visit needs Chromium and is left out with a reason where there is none. Browser, server and lab job share the
machine's cores.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
GOALS_S = {"help_s": 0.3, "show_s": 1.0, "cells_s": 6.0, "complete_s": 15.0}
"""The last two from the heading on."""
COMPUTING = "Computing the lab run"
_CELLS = """() => [...document.querySelectorAll(".js-plotly-plot")].some(plot => (plot._fullData || []).some(
  trace => trace.type === "heatmap" && [...trace.z].some(row => [...row].some(value => Number.isFinite(value)))))"""
_TIMEOUT_MS = 300_000


def measure(repeat: int = 3) -> dict[str, Any]:
    """Seconds; of the commands the fastest of ``repeat``."""
    from tests.factories_runs import write_run

    with tempfile.TemporaryDirectory(prefix="gcwm-bench-") as place:
        write_run(Path(place), "normal")
        commands = {"help_s": ["--help"], "show_s": ["show", str(Path(place) / "normal")]}
        result: dict[str, Any] = {
            name: min(_seconds(arguments) for _ in range(repeat)) for name, arguments in commands.items()
        }
    return result | {"visit": _visit(), "goals_s": GOALS_S}


def _seconds(arguments: list[str]) -> float:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "gcwm_viz", *arguments]
    subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def _visit() -> dict[str, Any]:
    """From the first request on: heading, something that moves, cells of a heatmap, the finished run."""
    from tests.browser.conftest import QUIET, Server

    chromium = shutil.which("chromium")
    if chromium is None:
        return {"reason": "no Chromium on this machine"}
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="gcwm-bench-") as place, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*QUIET.split(), "--no-first-run"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(_TIMEOUT_MS)
        server = Server(Path(place) / "runs")
        try:
            begin = time.perf_counter()
            found = {}
            page.goto(server.url)
            page.get_by_role("heading", name="Overview").wait_for()
            found["heading_s"] = time.perf_counter() - begin
            page.get_by_text(COMPUTING).wait_for()
            found["moves_s"] = time.perf_counter() - begin
            page.wait_for_function(_CELLS)
            found["cells_s"] = time.perf_counter() - begin
            page.get_by_text(COMPUTING).wait_for(state="detached")
            found["complete_s"] = time.perf_counter() - begin
            return found
        finally:
            server.stop()
            browser.close()
