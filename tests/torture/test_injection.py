"""Names from files that would be code, markup or formulas somewhere: they are shown as the characters they are."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from playwright.sync_api import Dialog, Page, expect
from safetensors.torch import load_file, save_file

from gcwm_viz import open_run
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.report.document import report
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.ui.page import PAGES
from gcwm_viz.updates.sources import open_update
from tests.browser.conftest import Server
from tests.factories_forecast import write_predictors
from tests.factories_runs import _representation, _scores
from tests.torture.test_recovery import small_inputs

SCRIPT = "<img src=x onerror=window.pwned=1>"
NAMES = (SCRIPT, "**bold** $x^2$ :red[x]", '=HYPERLINK("http:x")')
LINK = "[a](javascript:window.pwned=1)"
FAMILY = "<svg onload=pwned=1>"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A real run of updates, tensors and tasks with such names, scored tables added."""
    root = tmp_path_factory.mktemp("hostile")
    inputs = small_inputs(root)
    renamed = {}
    for file in (inputs.base / "model.safetensors", *(path / "update.safetensors" for _, path in inputs.updates)):
        mark = {"gcwm_viz": "update", "note": SCRIPT} if file.name.startswith("update") else None
        renamed = {name.replace("v_proj", FAMILY): held for name, held in load_file(file).items()}
        save_file(renamed, file, metadata=mark)
    listed = [(name, path) for name, (_, path) in zip(NAMES, inputs.updates, strict=True)]
    store = create_run(Inputs(base=inputs.base, updates=listed), root / "runs" / "hostile", RunSettings(), LINK)
    continue_run(store, torch.device("cpu"), workers=1)
    rng = np.random.default_rng(0)
    for name, table in (
        ("scores", _scores(rng, list(NAMES))),
        ("representation", _representation(rng, list(NAMES), 2)),
    ):
        if name == "representation":
            table["dataset"] = [LINK if index % 2 else SCRIPT for index in range(len(table))]
        table.to_parquet(store.path / "tables" / f"{name}.parquet")
    write_predictors(store.path, NAMES)
    return store


def test_nothing_fires_on_any_page_and_nothing_outside_is_asked(
    hostile: RunStore,
    serve: Callable[..., Server],
    window: Callable[[], Page],
    tmp_path: Path,
    record: Callable[[str, str, str], None],
) -> None:
    watched = tmp_path / "watched"
    server = serve(hostile.path.parent, PYTHONPATH=str(Path(__file__).parent / "watching"), GCWM_WATCH=str(watched))
    page = window()
    fired, asked = [], []

    def dismissed(dialog: Dialog) -> None:
        fired.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismissed)
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda opened: asked.append(opened.url))
    page.add_init_script("document.addEventListener('securitypolicyviolation', e => { window.blocked = 1 })")
    shown = ""
    for name in PAGES.values():
        path = "" if name == "Overview" else name
        page.goto(f"{server.url}/{path}?{urlencode({'run': 'hostile', 'step': 3, 'layer': 0, 'family': FAMILY})}")
        expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible(timeout=60_000)
        expect(page.get_by_test_id("stException")).to_have_count(0)
        page.wait_for_timeout(700)
        assert page.evaluate("window.pwned") is None, name
        inside = "[data-testid=stMain], [data-testid=stSidebar]"
        for trap in ("img[src=x]", "svg[onload]", "a[href^=javascript]", "[onerror]"):
            assert page.locator(inside).locator(trap).count() == 0, (name, trap)
        shown += page.locator("body").inner_text() + "".join(page.locator(".js-plotly-plot").all_text_contents())
    assert not fired
    assert not [url for url in asked if url.endswith("/x")]
    assert asked
    assert not [url for url in asked if url.startswith(("http", "ws")) and f"localhost:{server.port}" not in url], (
        "a page asks another host"
    )
    assert not watched.exists(), watched.read_text()
    assert "onerror=window.pwned" in shown, "the name is shown as text"
    assert "**bold** $x^2$" in shown
    assert "onload=pwned=1" in shown

    page.goto(f"{server.url}/Scores?run=hostile&step=3")
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible()
    page.wait_for_timeout(700)  # a page that has just loaded may run once more, which replaces the link of a download
    page.get_by_text("Formula and data").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").first.click()
    download.value.save_as(tmp_path / "x.csv")
    cells = [cell for row in csv.reader(io.StringIO((tmp_path / "x.csv").read_text(), newline="")) for cell in row]
    assert "'" + NAMES[2] in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]
    record(
        "Injection", f"{len(NAMES) + 2} hostile names on {len(PAGES)} pages and in a CSV", "shown as text, none fired"
    )
    record(
        "Who is asked",
        f"{len(asked)} browser requests over {len(PAGES)} pages",
        "every request to loopback; server looked up and connected to nothing outside",
    )


def test_nothing_fires_in_the_report(
    hostile: RunStore, window: Callable[[], Page], tmp_path: Path, record: Callable[[str, str, str], None]
) -> None:
    file = tmp_path / "report.html"
    file.write_text(report(open_run(hostile.path)), encoding="utf-8")
    page = window()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_timeout(1500)
    assert page.evaluate("window.pwned") is None
    for trap in ("img[src=x]", "svg[onload]", "a[href^=javascript]", "[onerror]"):
        assert page.locator(trap).count() == 0, trap
    assert "onerror=window.pwned" in page.locator("body").inner_text()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
    record("Injection", "the same names in the HTML report", "shown as text, none fired, nothing requested")


def test_the_model_card_is_text(hostile: RunStore, tmp_path: Path) -> None:
    """Rendered as Markdown with raw HTML allowed, as model hubs do: the names are inside a code block."""
    markdown = pytest.importorskip("markdown_it", reason="the Markdown renderer is not installed")
    card = (export_step(hostile, 3, tmp_path / "out") / "README.md").read_text()
    front, _, body = card.removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(front) == {
        "base_model": hostile.file.base.where,
        "base_model_relation": "merge",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["merge", "gcwm"],
    }
    page = markdown.MarkdownIt("commonmark", {"html": True}).render(body)
    assert "<img" not in page
    assert "<strong>" not in page
    assert "&lt;img src=x onerror" in page
    block = yaml.safe_load("".join(line[4:] + "\n" for line in body.splitlines() if line.startswith("    ")))
    assert [update["name"] for update in block["updates"]] == list(NAMES)
    assert {item.name for item in (tmp_path / "out").iterdir()} == {"README.md", "config.json", "model.safetensors"}


def test_tables_hold_the_names_as_they_are(hostile: RunStore) -> None:
    rows = pd.read_parquet(hostile.path / "tables" / "matrices.parquet")
    assert set(rows["update"]) == set(NAMES)
    assert any(FAMILY in name for name in rows["matrix"])
    names = {file.name for file in hostile.path.rglob("*") if file.is_file() and file.parent.name == "matrices"}
    assert names == {f"{index:05d}.{kind}" for index in range(8) for kind in ("json", "safetensors")}


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "a\\b", "..", ".", "", "x" * 101, "a\nb", "a\0b", "a\u202eb", "\ud800", "state"]
)
def test_names_that_are_paths_or_cannot_be_printed_are_refused(hostile: RunStore, name: str) -> None:
    base = CheckpointIndex.open(hostile.file.base.path)
    with pytest.raises(InputError, match="update name"):
        open_update(name, hostile.file.updates[0].path, base)
