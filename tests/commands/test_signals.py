"""docs/signals.md is what ``methods --signals`` prints, with every signal in it once."""

import re
from pathlib import Path

import pytest

from gcwm_viz.cli import main
from gcwm_viz.signals.catalogue import SIGNALS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "signals.md"


def test_the_document_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--signals"]) == 0
    printed = capsys.readouterr().out
    assert printed == DOCUMENT.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| \*\*(.+?)\.\*\* .+ \| .* \| ([\[(].+?[\])]) \| .* \|$", printed, re.MULTILINE)
    assert sorted(rows) == sorted((name, signal.title, signal.range) for name, signal in SIGNALS.items())
