"""Every setting is named where a user looks for it: in --help, by ``methods`` and in docs/settings.md."""

import re
from pathlib import Path

import pytest

from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.merging.registry import METHODS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def test_the_document_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--settings"]) == 0
    printed = capsys.readouterr().out
    assert printed == DOCUMENT.read_text(encoding="utf-8")
    for method in METHODS:
        assert all(f"| `{name}` |" in printed for name in RunSettings.preset_with("scale-free", {}, method).single())


@pytest.mark.parametrize(
    "command", [["run"], ["check"], ["tune"], ["sweep"], ["lab", "run"], ["lab", "pipeline"], ["example", "smollm2"]]
)
def test_help_lists_every_shared_setting(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {name} [" in printed for name in RunSettings().single())


def test_a_method_is_listed_with_its_own_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    printed = f"\n{capsys.readouterr().out}"
    for method in METHODS.values():
        block = re.split(r"\n(?! )", printed.split(f"\n{method.name} ")[1])[0]
        assert all(f"\n    {name} [" in block for name in method.settings.names())
