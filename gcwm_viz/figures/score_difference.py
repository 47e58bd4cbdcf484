"""Scores of two runs: their difference by task at one step, and both over the steps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.statistics.means import Z95

BY_TASK = About(
    title="Difference by task",
    line="Score of the first run minus that of the second, with a 95 % interval. Right of the line = the first run is "
    "higher; an interval across the line = no clear difference.",
    formula=r"R_1[t,u]-R_2[t,u]",
)
COURSE = About(
    title="Both runs over the steps",
    line="Mean score over all tasks and over earlier tasks after every step, with 95 % intervals. Solid: the first "
    "run. Dashed: the second.",
)
_LINES = {"overall": "all tasks", "old_mean": "earlier tasks"}


def score_difference(differences: pd.DataFrame, overall: tuple[float, float], unit: str) -> go.Figure:
    """Points with intervals, one a task (``score_differences``), and their mean. overall: (mean, standard error)."""
    measured = differences[differences["difference"].notna()]
    if measured.empty:
        return theme.nothing(BY_TASK.title, "No task was scored in both runs at this step.")
    figure = theme.figure(
        BY_TASK.title, height=int(130 + np.clip(34 * (len(measured) + 1), 90, 700)), x=f"difference, {unit}"
    )
    names = [*(theme.as_text(name, limit=22) for name in measured.index), "mean over tasks"]
    values = [*measured["difference"], overall[0]]
    errors = [*measured["se"], overall[1]]
    figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.5})
    figure.add_scatter(
        x=values,
        y=list(range(len(names))),
        mode="markers",
        name="difference",
        error_x=theme.error_bar(errors, width=4, thickness=1.8, color=theme.NEUTRAL),
        marker={
            "size": [9] * len(measured) + [13],
            "symbol": ["circle"] * len(measured) + ["diamond"],
            "color": [theme.OKABE_ITO[0]] * len(measured) + [theme.OKABE_ITO[5]],
        },
        customdata=[Z95 * error for error in errors],
        text=names,
        hovertemplate="%{text}: %{x:+.3g} ± %{customdata:.2g}<extra></extra>",
    )
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5], showgrid=False
    )
    return figure


def two_courses(courses: Mapping[str, pd.DataFrame], unit: str) -> go.Figure:
    """``downstream`` of both runs by name, the first one solid."""
    if not any(
        course.get(column, pd.Series(dtype=float)).notna().any() for course in courses.values() for column in _LINES
    ):
        return theme.nothing(COURSE.title, "Neither run was scored.")
    figure = theme.figure(COURSE.title, height=400, x="step (0 = base)", y=unit, legend=True)
    for (run, course), dash in zip(courses.items(), ("solid", "dash"), strict=True):
        for index, (column, name) in enumerate(_LINES.items()):
            symbol = theme.category(index)["symbol"]
            theme.line(
                figure, index, course.index, course[column], f"{theme.as_text(run, limit=24)}: {name}", width=2.2,
                size=8, dash=dash, marker_symbol=symbol if dash == "solid" else f"{symbol}-open",
                error_y=theme.error_bar(course.get(f"{column}_se"), thickness=1.2),
                hovertemplate="step %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
            )  # fmt: skip
    figure.update_xaxes(dtick=1 if max(len(course) for course in courses.values()) <= 15 else 2)
    return figure
