"""What a chart says in words: the same text serves the app, the alt text and the report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class About:
    """One chart in words.

    title: what is drawn. line: one sentence for a reader new to it, with unit and direction.
    formula: LaTeX, or empty. source: where in the paper (arXiv 2605.09608) it comes from, or empty.
    """

    title: str
    line: str
    formula: str = ""
    source: str = ""
