"""A signal: one number per matrix and step, declared once with its documentation and how it is drawn."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gcwm_viz.signals.step import Step

Need = Literal["state", "probes", "gradients"]
Page = Literal["Conflict", "Gate", "Solver", ""]


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A column of the table ``matrices``, its mean over matrices in ``steps``, and how both are drawn.

    column: its name in the tables. title: its name on charts. line: one plain sentence with unit and direction.
    formula: LaTeX, or empty. source: where in the paper (arXiv 2605.09608) it is defined, or empty.
    meaning: the column's line in the tables' documentation, by default ``line``.
    least, most: its range, None for an open end. diverging: whether its colours meet at zero.
    averaged: whether ``steps`` holds its mean over matrices; extremes: its range over matrices too.
    page: which one shows its heatmap; "" for none. summary: whether tables of one row per step or run list it.
    explained: whether the page Explain correlates it with forgetting.
    needs: what a run must provide for it. of: its value, NaN where it is undefined; None where it is measured elsewhere
    (gradients of probe tasks by the study) or derived for one page.
    """

    column: str
    title: str
    line: str
    formula: str = ""
    source: str = ""
    meaning: str = ""
    least: float | None = 0.0
    most: float | None = 1.0
    diverging: bool = False
    averaged: bool = True
    extremes: bool = False
    page: Page = "Conflict"
    summary: bool = False
    explained: bool = True
    needs: tuple[Need, ...] = ()
    of: Callable[[Step], float] | None = None

    @property
    def range(self) -> str:
        """As an interval: ``[0, 1]``, or ``[0, ∞)``."""
        least = "(-∞" if self.least is None else f"[{self.least:g}"
        most = "∞)" if self.most is None else f"{self.most:g}]"
        return f"{least}, {most}"

    @property
    def documentation(self) -> str:
        """The column in words, with its range."""
        return f"{self.meaning or self.line}, in {self.range}"
