"""docs as a site: every link and anchor leads somewhere, everything public is in the reference, nothing is fetched."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import gcwm_viz
from gcwm_viz.ui.page import PAGES

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
FETCHED = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(?:https?:)?//[^"]*"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    written = {file.with_suffix(".html").name for file in (ROOT / "docs").glob("*.md")}
    assert written <= {file.name for file in site.glob("*.html")}


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    assert {file.name: found for file in site.glob("*.html") if (found := FETCHED.findall(file.read_text()))} == {}


def test_the_reference_has_every_public_name_in_plain_words(site: Path) -> None:
    html = (site / "reference.html").read_text()
    described = set(re.findall(r'id="gcwm_viz\.(\w+)"', html))
    assert described >= set(gcwm_viz.__all__)
    assert 'id="gcwm_viz.errors.InputError"' in html
    assert not re.search(r":\w+:<code>", html), "a role of another documentation tool, where two backticks are meant"


def test_every_page_of_the_app_is_listed() -> None:
    rows = re.findall(r"^\|[^|]*\| ([^|]+) \|", (ROOT / "docs" / "pages.md").read_text(), re.MULTILINE)
    assert sorted(set(rows) - {"page", "---"}) == sorted(PAGES.values())


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md"])
def test_links_of_documents_beside_the_site(name: str) -> None:
    document = ROOT / name
    missing = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert missing == []
