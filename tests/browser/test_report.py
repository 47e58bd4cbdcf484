"""The report opened from disk, with the network cut off."""

from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from gcwm_viz.report.document import report
from gcwm_viz.runs.tables import open_run
from tests.factories_runs import write_run


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_opens_from_disk_without_a_network(chromium: Browser, tmp_path: Path, scheme: Literal["light", "dark"]) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(open_run(write_run(tmp_path, "nan"))))
    context = chromium.new_context(offline=True, color_scheme=scheme)
    try:
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        count = page.locator(".plot").count()
        page.wait_for_function("n => document.querySelectorAll('.plot .main-svg').length >= n", arg=count)
        assert count >= 27
        assert not said
        assert asked == [file.as_uri()]
        assert page.locator("main b:has-text('bold'), main a").count() == 0
        ink = page.evaluate("getComputedStyle(document.querySelector('.plot .xtick text')).fill")
        assert ink == {"light": "rgb(27, 33, 40)", "dark": "rgb(228, 233, 239)"}[scheme]
        with page.expect_download() as download:  # the mode bar exports a picture by itself
            page.locator(".plot").first.hover()
            page.locator(".plot").first.locator(".modebar-btn[data-title*='Download']").click()
        assert download.value.suggested_filename.endswith(".svg")
    finally:
        context.close()
