"""Retention: each task's score after every step, against base and expert."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Retention by task",
    line="One panel a task: its score after every step, with 95 % intervals. Dotted line: the base. Dashed line: "
    "the task's own expert. The diamond is the step that adds the task.",
    formula=r"R[\cdot,u]",
    source="Sec. 5",
)
_COLUMNS = 3


def retention(
    R: pd.DataFrame, errors: pd.DataFrame | None = None, own: pd.Series | None = None, *, order: list[str], unit: str
) -> go.Figure:
    """Small multiples of R's columns. order: update names by arrival (task u arrives at the step of its name)."""
    if R.empty:
        return theme.nothing(ABOUT.title, "This run was not scored: it was started without probes.")
    tasks = list(R.columns)
    columns = min(_COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure = theme.panels(
        ABOUT.title,
        height=80 + 190 * rows,
        rows=rows,
        cols=columns,
        top=76,
        shared_xaxes=True,
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=min(0.2, 0.34 / rows),
        subplot_titles=[theme.as_text(task, limit=26) for task in tasks],
    )
    for annotation in figure.layout.annotations:
        annotation.update(font={"size": 13}, xanchor="center")
    for index, task in enumerate(tasks):
        panel = {"row": index // columns + 1, "col": index % columns + 1}
        error = errors[task] if errors is not None and task in errors else None
        figure.add_scatter(
            x=R.index,
            y=R[task],
            mode="lines+markers",
            line={"color": theme.OKABE_ITO[0], "width": 2.2},
            error_y=theme.error_bar(error),
            marker={"size": 6},
            hovertemplate="step %{x}: %{y:.3g}<extra></extra>",
            **panel,
        )
        scores = dict(zip(R.index, R[task].to_numpy(dtype=float), strict=True))
        base = scores.get(0, np.nan)
        if np.isfinite(base):
            figure.add_hline(y=base, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"}, **panel)
        expert = float(own.get(task, np.nan)) if own is not None else np.nan
        if np.isfinite(expert):
            figure.add_hline(y=expert, line={"color": theme.OKABE_ITO[1], "width": 1.6, "dash": "dash"}, **panel)
        step = order.index(task) + 1 if task in order else -1
        if np.isfinite(scores.get(step, np.nan)):
            figure.add_scatter(
                x=[step],
                y=[scores[step]],
                mode="markers",
                hoverinfo="skip",
                marker={"symbol": "diamond", "size": 12, "color": theme.OKABE_ITO[5]},
                **panel,
            )
    figure.update_yaxes(rangemode="tozero", gridcolor=theme.GRID)
    figure.update_yaxes(title_text=unit, col=1)
    figure.update_xaxes(dtick=1 if len(R) <= 10 else 2, gridcolor=theme.GRID)
    figure.update_xaxes(title_text="step", row=rows)
    return figure
