"""Command lines that README and docs show: those in blocks parse, commands and options in sentences exist."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from gcwm_viz.cli import parser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]
WHOLE = parser()
NAME = "gcwm-viz"


def commands_of(one: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Those below a command, by name."""
    return next((dict(each.choices) for each in one._actions if isinstance(each, argparse._SubParsersAction)), {})


def unknown(words: list[str]) -> list[str]:
    """Words of a command line, without the program, that name no command or option."""
    at, wrong = WHOLE, []
    for word in words:
        below = commands_of(at)
        if word.startswith("--"):
            wrong += [word] if word.split("=")[0] not in at._option_string_actions else []
        elif below:
            if word not in below:
                return [*wrong, word]
            at = below[word]
    return wrong


def options_of(one: argparse.ArgumentParser) -> set[str]:
    return set(one._option_string_actions).union(*map(options_of, commands_of(one).values()))


def blocks(text: str) -> list[str]:
    """Command lines in blocks of code, those that go on in the next line joined."""
    return re.findall(rf"^\s*({NAME} .+)$", text.replace("\\\n", " "), re.MULTILINE)


def sentences(text: str) -> list[list[str]]:
    """Words of what stands in backticks within sentences and tables."""
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    return [span.split() for span in re.findall(r"`([^`]+)`", prose)]


LINES = [(file.relative_to(ROOT), line) for file in DOCUMENTS for line in blocks(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("document", "line"), LINES, ids=str)
def test_a_line_of_a_block_parses(document: Path, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    assert unknown(words) == []  # parse_args takes a beginning of an option, too
    WHOLE.parse_args(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_and_options_in_sentences_exist(document: Path) -> None:
    commands, options, wrong = commands_of(WHOLE), options_of(WHOLE), []
    for words in sentences(document.read_text(encoding="utf-8")):
        if words[0].rpartition("/")[2] == NAME:
            wrong += unknown(words[1:])
        elif words[0] in commands:
            wrong += unknown(words)
        elif words[0].startswith("--"):
            wrong += [word for word in words if word.startswith("--") and word.split("=")[0] not in options]
    assert wrong == []


def test_what_is_wrong_is_found() -> None:
    assert unknown(["run", "--plan", "plan.yaml", "--invented"]) == ["--invented"]
    assert unknown(["lab", "invent", "--out", "x"]) == ["invent"]
    assert blocks(f"```sh\n{NAME} run \\\n  --out y  # why\n```") == [f"{NAME} run    --out y  # why"]
    assert {line.split()[1] for file, line in LINES if str(file) == "README.md"} >= {"check", "run", "app", "export"}
