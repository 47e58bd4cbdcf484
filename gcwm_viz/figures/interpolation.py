"""Scores and losses on the straight line between two states, task by task."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.attribution.roles import by_arrival, role
from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.attribution_map import path_name

ABOUT = About(
    title="On the way between two states",
    line="Every task at start + λ · (end − start). λ = 0 is the start, 1 the end; beyond 1 the change is exaggerated. "
    "Bold: the task that arrives at the step. Thin: earlier ones. Dotted: tasks that have not arrived. A peak "
    "between 0 and 1 says that a part of the change would do.",
    formula=r"W_a+\lambda\,(W_b-W_a)",
)
_LOOKS = {"arrived": (3.4, "solid"), "earlier": (1.8, "solid"), "later": (1.4, "dot"), "other": (1.4, "dashdot")}
_SPREAD = 20.0
"""Ratio of losses from which their axis is logarithmic: one task not learned yet would press the others flat."""


def interpolation(rows: pd.DataFrame, *, order: Sequence[str], unit: str, loss: bool = False) -> go.Figure:
    """Lines over λ, a panel for every path in ``rows``, which are of the table ``interpolation``, one split and metric.

    order: update names by arrival. unit: of the scores. loss: whether lower is better. Not finite values are gaps.
    """
    rows = rows.assign(value=rows["value"].astype(float).replace([np.inf, -np.inf], np.nan))
    if not rows["value"].notna().any():
        return theme.nothing(ABOUT.title, "Nothing has been scored between these states yet.")
    ends = set(zip(rows["start"].astype(int), rows["step"].astype(int), strict=True))
    paths = sorted(ends, key=lambda path: (path[1], path[0]))
    figure = theme.panels(
        ABOUT.title, height=420, rows=1, cols=len(paths), legend=-0.24, shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=[path_name(*path) for path in paths],
    )  # fmt: skip
    figure.update_annotations(font_size=13)
    figure.update_layout(margin_t=84)
    tasks = by_arrival(list(rows["task"]), order)
    listed: set[str] = set()
    for column, (start, step) in enumerate(paths, start=1):
        for index, task in enumerate(tasks):
            own = rows[(rows["task"] == task) & (rows["start"] == start) & (rows["step"] == step)].sort_values("lam")
            if own.empty:
                continue
            width, dash = _LOOKS[role(task, step, order)]
            name = theme.as_text(task, limit=22)
            theme.line(
                figure, index, own["lam"], own["value"], name, width=width, size=8 if width > 3 else 5,
                dash=dash, legendgroup=str(index), showlegend=task not in listed, cliponaxis=False,
                customdata=[f"{theme.margin(se)} (95 %)" for se in own["se"]],
                hovertemplate="%{fullData.name}, λ = %{x:.3g}: %{y:.3g} %{customdata}<extra></extra>",
                marker_color=theme.category(index)["color"], row=1, col=column,
            )  # fmt: skip
            listed.add(task)
    for x in (0, 1):
        figure.add_vline(x=x, line={"color": theme.NEUTRAL, "width": 1.4}, layer="below")
    figure.update_xaxes(title_text="λ", tickvals=[0, 0.5, 1, 1.5], ticktext=["0<br>start", "0.5", "1<br>end", "1.5"])
    low, high = rows["value"].min(), rows["value"].max()
    if loss and 0 < low < high / _SPREAD:
        ticks = [digit * 10.0**power for power in range(-6, 6) for digit in (1, 2, 5)]
        figure.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])
        figure.update_layout(title_text=f"{ABOUT.title} (logarithmic scale)")
    else:
        figure.update_yaxes(rangemode="tozero")
    figure.update_yaxes(title_text=f"{unit}, {'lower' if loss else 'higher'} = better", row=1, col=1)
    return figure
