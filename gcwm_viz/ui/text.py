"""Text from files, as literal text inside Streamlit's Markdown and in spreadsheets."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|$~:&^=\"'])")

_FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")


def as_markdown(value: Any, limit: int = 160) -> str:
    """``value`` so that Markdown, LaTeX, HTML, colour and icon syntax in it show as literal characters.

    Cut to ``limit`` as :func:`shortened` does.
    """
    return _SPECIAL.sub(r"\\\1", shortened(value, limit))


def shortened(value: Any, limit: int) -> str:
    """``value`` as one line of plain text, control characters and line breaks as spaces; what is longer than ``limit``
    is cut with an ellipsis."""
    text = "".join(character if character.isprintable() else " " for character in str(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def as_csv(frame: "pd.DataFrame") -> bytes:
    """``frame`` as CSV whose texts no spreadsheet computes: see :func:`plain_cell`."""
    safe = frame.map(plain_cell)
    safe.columns = [plain_cell(name) for name in safe.columns]
    return safe.to_csv(index=False).encode()


def plain_cell(value: Any) -> Any:
    """``value``, with an apostrophe before a text that a spreadsheet would read as a formula."""
    if not isinstance(value, str):
        return value
    value = value.replace("\r", " ")  # pandas leaves it unquoted, and a spreadsheet begins a new row there
    return f"'{value}" if _FORMULA.match(value) else value
