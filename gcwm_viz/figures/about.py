"""The caption of a chart: one text for the app, the alt text and the report."""

from dataclasses import dataclass
from typing import Protocol


class Explained(Protocol):
    """What captions a chart: an :class:`About`, or a signal, which has the same fields."""

    @property
    def title(self) -> str: ...
    @property
    def line(self) -> str: ...
    @property
    def formula(self) -> str: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class About:
    """Caption of one chart.

    title: what is drawn. line: one sentence for a reader new to it, with unit and direction.
    formula: LaTeX, or empty. source: where in the paper (arXiv 2605.09608) it comes from, or empty.
    """

    title: str
    line: str
    formula: str = ""
    source: str = ""
