"""Text from files, as literal text inside Streamlit's Markdown."""

from __future__ import annotations

import re
from typing import Any

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|$~:&^=\"'])")


def as_markdown(value: Any, limit: int = 160) -> str:
    """``value`` so that Markdown, LaTeX, HTML, colour and icon syntax in it show as the characters they are.

    Control characters and line breaks become spaces. Longer than ``limit``: cut with an ellipsis.
    """
    text = "".join(character if character.isprintable() else " " for character in str(value))
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return _SPECIAL.sub(r"\\\1", text)
