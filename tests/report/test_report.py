"""The report: one file, whole, silent and literal."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from gcwm_viz.cli import USAGE_ERROR, main
from gcwm_viz.errors import InputError
from gcwm_viz.report.document import report
from gcwm_viz.report.markup import Page, flat, text
from gcwm_viz.runs.tables import open_run
from tests.factories_runs import NASTY, write_run

LIMIT = 8_000_000
SECTIONS = (
    "What was run", "In short", "Where forgetting is", "Where the geometries conflict", "The gate",
    "The most conflicted matrix", "The inner solver", "Scores", "Which updates to integrate", "Notes",
)  # fmt: skip


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("runs")
    return {kind: report(open_run(write_run(root, kind))) for kind in ("normal", "one", "nan", "wide")}


def headings(document: str) -> list[str]:
    return re.findall(r'<h2 id="s\d+">(.*?)</h2>', document)


def figures(document: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json" id="chart-\d+-data">(.*?)</script>', document, re.DOTALL)
    return [json.loads(entry) for entry in found]


@pytest.mark.parametrize("kind", ["normal", "one", "nan", "wide"])
def test_every_kind_of_run_gives_a_whole_small_file(reports: dict[str, str], kind: str) -> None:
    document = reports[kind]
    assert len(document.encode()) < LIMIT
    expected = [name.replace("most conflicted", "first") if kind == "one" else name for name in SECTIONS]
    assert headings(document) == expected
    drawn = figures(document)
    assert len(drawn) == len(re.findall('role="img"[^>]*aria-label="[^"]{20,}"', document)) >= 27
    assert document.count("<figcaption>") == len(drawn)
    assert document.count("Plotly.newPlot(holder") == 1


def test_names_are_text_wherever_they_stand(reports: dict[str, str]) -> None:
    document = reports["nan"]
    assert NASTY not in document
    assert html.escape(NASTY) in document
    assert not re.search(r"<b>bold|<a href='x'", document)
    assert "<b>bold" not in json.dumps(figures(document))


def test_no_path_of_this_machine_is_in_it(reports: dict[str, str]) -> None:
    assert "models/updates/" not in reports["normal"]


def test_unscored_ungated_run_says_so(tmp_path: Path) -> None:
    import pandas as pd

    run = write_run(tmp_path, "normal")
    for name in ("scores", "representation"):
        (run / "tables" / f"{name}.parquet").unlink()
    file = run / "tables" / "matrices.parquet"
    empty = {name: float("nan") for name in ("alpha", "plain_shift", "geo_shift", "plain_minimum", "geo_minimum")}
    pd.read_parquet(file).assign(mode="merged", **empty).to_parquet(file)
    document = report(open_run(run))
    for said in ("was not scored", "has no gate", "has no inner solver"):
        assert said in document


def test_command_writes_it_and_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = write_run(tmp_path, "one"), tmp_path / "out.html"
    assert main(["report", str(run), "--html", str(out)]) == 0
    assert out.read_text().startswith("<!doctype html>")
    assert main(["report", str(write_run(tmp_path, "empty")), "--html", str(out)]) == USAGE_ERROR
    assert "no step is finished" in capsys.readouterr().err
    assert main(["report", str(run), "--html", str(tmp_path / "no" / "out.html")]) == USAGE_ERROR
    assert "folder that exists" in capsys.readouterr().err


def test_empty_run_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to report"):
        report(open_run(write_run(tmp_path, "empty")))


def test_text_is_literal_and_bounded() -> None:
    assert text('a<b>\n"c" & \'') == "a&lt;b&gt; &quot;c&quot; &amp; &#x27;"
    assert len(text("x" * 5000)) == 2000
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": "f"}) == [("a.b", "1"), ("a.c.d", "None"), ("e", "f")]


def test_a_folded_table_keeps_its_cells() -> None:
    page = Page("t")
    page.table(("name", "value"), [("<x>", "1")], fold="more")
    document = page.document()
    assert "<summary>more</summary>" in document
    assert '<td>&lt;x&gt;</td><td class="n">1</td>' in document
