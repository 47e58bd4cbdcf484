"""What is expected with an update whole, with less of it, and without it."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.decide.verdict import SMALL
from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Whole, less or without",
    line="Expected mean score over all tasks with each update whole, at a third of its strength, and without it, "
    "beside the other updates of the plan. Right = better; the ring marks the best. At the right: the verdict, "
    f"for which a difference of {SMALL} does not count.",
)
LEVELS = {"whole": "whole", "less": "a third", "without": "without"}
"""Columns of the table and what they are called."""
WORDS = {"integrate": "integrate", "less": "with less", "hold": "hold", "redundant": "redundant"}
"""Verdicts in the words of the figure."""
_LOOKS = (("circle", theme.OKABE_ITO[0]), ("diamond", theme.OKABE_ITO[4]), ("circle-open", theme.OKABE_ITO[5]))


def expected_levels(updates: pd.DataFrame, unit: str = "exact match") -> go.Figure:
    """A row of three dots an update, in the order of the table, with its verdict beside it.

    updates: columns update, whole, less, without (expected mean scores, or changes of it), choice (a verdict). A level
    that is NaN has no dot; of equal ones the first is marked.
    """
    names = list(LEVELS)
    numbers = updates[names].astype(float).reset_index(drop=True)
    if not numbers.notna().any(axis=None):
        return theme.nothing(ABOUT.title, "Nothing is expected of these updates: there is no forecast here.")
    room = 24 * max(len(numbers), 4)  # below the rows stand ticks, axis title and legend, whose place is a share of it
    figure = theme.figure(ABOUT.title, height=118 + room, x=f"expected mean {unit}", legend=True)
    rows = list(range(len(numbers)))
    shown = [theme.as_text(update, limit=22) for update in updates["update"]]
    _spans(figure, numbers)
    for name, (symbol, color) in zip(names, _LOOKS, strict=True):
        figure.add_scatter(
            x=numbers[name],
            y=rows,
            mode="markers",
            name=LEVELS[name],
            marker={"size": 10, "symbol": symbol, "color": color, "line": {"width": 2, "color": color}},
            text=shown,
            hovertemplate=f"%{{text}} {LEVELS[name]}: %{{x:.3g}}<extra></extra>",
        )
    best = numbers.max(axis=1)
    figure.add_scatter(
        x=best,
        y=rows,
        mode="markers",
        name="best",
        hoverinfo="skip",
        marker={"size": 18, "symbol": "circle-open", "color": theme.NEUTRAL, "line": {"width": 2}},
    )
    for row, choice in enumerate(updates["choice"]):
        words = WORDS.get(choice) or theme.as_text(choice, limit=18)
        theme.note(figure, words, x=1, xref="paper", xshift=8, y=row, xanchor="left")
    figure.update_yaxes(tickvals=rows, ticktext=shown, range=[len(rows) - 0.4, -0.6], showgrid=False)
    figure.update_layout(margin_r=82, legend_y=-66 / (room + 20))
    return figure


def _spans(figure: go.Figure, numbers: pd.DataFrame) -> None:
    """A thin line from the least to the greatest of each row."""
    x, y = [], []
    for row, (low, high) in enumerate(zip(numbers.min(axis=1), numbers.max(axis=1), strict=True)):
        x += [low, high, None]
        y += [row, row, None]
    line = {"color": theme.faded(theme.NEUTRAL, 0.6), "width": 2}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False, name="span")
