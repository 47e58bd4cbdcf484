"""The app and the documentation define a word alike."""

import re
from pathlib import Path

from gcwm_viz.ui.glossary import GLOSSARY

DESIGN = Path(__file__).resolve().parents[2] / "docs" / "design.md"


def test_the_app_has_the_definitions_of_the_documentation() -> None:
    table = DESIGN.read_text(encoding="utf-8").split("## Glossary")[1]
    documented = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE))
    assert {word: documented.get(word) for word in GLOSSARY} == GLOSSARY
