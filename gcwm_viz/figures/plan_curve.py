"""Updates taken one by one: expected and measured mean score."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Taking updates one by one",
    line="Mean score over all tasks with the updates taken so far. Line: expected, with a 95 % band. Marks: measured, "
    "with 95 % bars. Higher = better; where a line falls, the update it adds is expected to cost more than it brings.",
)
_GLYPHS = "●■◆"
"""Marks of the first orders, whose updates are named below the axis; of more, they are in the hover text alone."""
_SIZES = 8
"""The longest order for which the names fit."""


def plan_curve(orders: dict[str, pd.DataFrame], unit: str = "exact match") -> go.Figure:
    """A line with a band over the number of updates taken, one an order.

    orders: name → columns size, update (that comes last; empty at size 0), expected with its 95 % interval low to high,
    value, se (NaN where nothing was measured). Not finite values are gaps.
    """
    drawn = {name: _finite(order) for name, order in orders.items()}
    drawn = {name: rows for name, rows in drawn.items() if rows[["expected", "value"]].notna().any(axis=None)}
    if not drawn:
        return theme.nothing(ABOUT.title, "Nothing is expected or measured of any order of these updates.")
    figure = theme.figure(ABOUT.title, height=420, x="updates taken", y=f"mean {unit}", legend=True)
    for index, rows in enumerate(drawn.values()):
        _band(figure, rows, theme.category(index)["color"], str(index))
    for index, (name, rows) in enumerate(drawn.items()):
        _draw(figure, index, theme.as_text(name, limit=40), rows)
    longest = max(int(rows["size"].max()) for rows in drawn.values())
    first = min(int(rows["size"].min()) for rows in drawn.values())
    figure.update_xaxes(range=[first - 0.4, longest + 0.4])
    if len(drawn) <= len(_GLYPHS) and longest <= _SIZES:
        sizes = list(range(first, longest + 1))
        figure.update_xaxes(tickvals=sizes, ticktext=[_tick(size, list(drawn.values())) for size in sizes])
        figure.update_layout(legend_y=-0.24 - 0.05 * len(drawn))
    else:
        figure.update_xaxes(dtick=1 if longest <= 20 else 5)
    return figure


def _finite(order: pd.DataFrame) -> pd.DataFrame:
    order, columns = order.reset_index(drop=True), ["expected", "low", "high", "value", "se"]
    numbers = order[columns].astype(float).replace([np.inf, -np.inf], np.nan)
    return order[["size", "update"]].join(numbers).sort_values("size")


def _band(figure: go.Figure, rows: pd.DataFrame, color: str, group: str) -> None:
    """Between low and high; a gap splits it, since one outline over a gap would close across it."""
    known = rows[["expected", "low", "high"]].notna().all(axis=1)
    for _, part in rows[known].groupby((~known).cumsum()[known]):
        figure.add_scatter(
            x=[*part["size"], *part["size"][::-1]],
            y=[*part["high"], *part["low"][::-1]],
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=theme.faded(color, 0.14),
            hoverinfo="skip",
            showlegend=False,
            legendgroup=group,
        )


def _draw(figure: go.Figure, index: int, name: str, rows: pd.DataFrame) -> None:
    color = theme.category(index)["color"]
    taken = [_taken(size, update) for size, update in zip(rows["size"], rows["update"], strict=True)]
    spread = [
        f" [{theme.num(low)}, {theme.num(high)}]" if low == low and high == high else ""
        for low, high in zip(rows["low"], rows["high"], strict=True)
    ]
    theme.line(
        figure, index, rows["size"], rows["expected"], name, width=2.4, size=4, dash=theme.category(index)["dash"],
        marker_color=color, legendgroup=str(index),
        customdata=list(zip(taken, spread, strict=True)),
        hovertemplate="%{customdata[0]}: expected %{y:.3g}%{customdata[1]}<extra></extra>",
    )  # fmt: skip
    measured = rows["value"].notna()
    if not measured.any():
        return
    figure.add_scatter(
        x=rows["size"][measured],
        y=rows["value"][measured],
        mode="markers",
        name=f"{name}, measured",
        legendgroup=str(index),
        marker={"size": 11, "symbol": theme.category(index)["symbol"], "color": color},
        error_y=theme.error_bar(rows["se"][measured].fillna(0.0), width=5, thickness=1.8, color=color),
        customdata=[
            (words, f" {theme.margin(se)}" if se == se else "")
            for words, se, known in zip(taken, rows["se"], measured, strict=True)
            if known
        ],
        hovertemplate="%{customdata[0]}: measured %{y:.3g}%{customdata[1]}<extra></extra>",
    )


def _taken(size: int, update: object) -> str:
    """In words, since on the axis the number is replaced by a text of several lines."""
    return f"{size} taken, + {theme.as_text(update, limit=22)}" if update else f"{size} taken"


def _tick(size: int, orders: list[pd.DataFrame]) -> str:
    """The number, and below it the update that each order adds there, behind the order's mark."""
    lines = [str(size)]
    for index, rows in enumerate(orders):
        names = [update for update in rows["update"][rows["size"] == size] if update]
        mark = f'<span style="color:{theme.category(index)["color"]}">{_GLYPHS[index]}</span>'
        lines += [f"{mark} {theme.as_text(name, limit=11)}" for name in names[:1]]
    return "<br>".join(lines)
