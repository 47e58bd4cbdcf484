"""The run at a glance: scores above, conflict below, over the same steps."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.signals import ACTIVE, INCOMING, STATE, Signal

ABOUT = About(
    title="What happened, step by step",
    line="Above: probe scores after each step (higher = better), with 95 % intervals. Below: mean geometry conflict "
    "over all matrices (higher = more conflict).",
)
SIGNALS = (ACTIVE, STATE, INCOMING)
_SCORES = {"overall": "all tasks", "old_mean": "earlier tasks", "current": "the arriving task"}


def step_trend(
    steps: pd.DataFrame,
    downstream: pd.DataFrame | None = None,
    signals: tuple[Signal, ...] = SIGNALS,
    chosen_step: int | None = None,
    unit: str = "exact match",
) -> go.Figure:
    """Lines over steps. steps: the ``steps`` table; downstream: metrics by step (row 0 is the base), or None."""
    if steps.empty:
        return theme.nothing(ABOUT.title, "This run has no finished step yet.")
    scored = downstream is not None and not downstream.empty
    made = make_subplots(rows=2 if scored else 1, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    base = theme.figure(ABOUT.title, height=520 if scored else 320, legend=True).layout
    made.update_layout(
        template=base.template,
        title=base.title,
        height=base.height,
        margin=base.margin,
        legend=base.legend,
        showlegend=True,
        hovermode="x unified",
    )
    made.update_layout(legend_y=-0.14 if scored else -0.24)
    if scored and downstream is not None:
        for index, (column, name) in enumerate(_SCORES.items()):
            look = theme.category(index)
            errors = downstream.get(f"{column}_se")
            made.add_scatter(
                x=downstream.index,
                y=downstream[column],
                name=f"score, {name}",
                row=1,
                col=1,
                mode="lines+markers",
                error_y=theme.error_bar(errors, thickness=1.2),
                line={"color": look["color"], "width": 2.4},
                marker={"symbol": look["symbol"], "size": 8},
                hovertemplate="%{y:.3g}",
            )
        made.update_yaxes(title_text=unit, row=1, col=1)
    row = 2 if scored else 1
    for index, signal in enumerate(signals):
        if not steps[signal.column].notna().any():
            continue
        look = theme.category(index + 3)
        made.add_scatter(
            x=steps["step"],
            y=steps[signal.column],
            name=signal.title,
            row=row,
            col=1,
            mode="lines+markers",
            line={"color": look["color"], "width": 2, "dash": "dash"},
            marker={"symbol": look["symbol"], "size": 7},
            hovertemplate="%{y:.3g}",
        )
    made.update_yaxes(title_text="mean conflict", rangemode="tozero", row=row, col=1)
    if chosen_step is not None:
        made.add_vline(x=chosen_step, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    names = [
        f"{step} · {theme.as_text(name, limit=14)}" for step, name in zip(steps["step"], steps["update"], strict=True)
    ]
    ticks, labels = list(steps["step"]), names
    if scored:
        ticks, labels = [0, *ticks], ["base", *labels]
    made.update_xaxes(tickvals=ticks, ticktext=labels, gridcolor=theme.GRID)
    return made
