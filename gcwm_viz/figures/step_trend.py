"""Scores above, conflict below, over the same steps."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.signals.catalogue import ACTIVE, INCOMING, STATE
from gcwm_viz.signals.signal import Signal

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
    figure = theme.panels(
        ABOUT.title,
        height=520 if scored else 320,
        rows=2 if scored else 1,
        legend=-0.14 if scored else -0.24,
        shared_xaxes=True,
        vertical_spacing=0.08,
    )
    figure.update_layout(hovermode="x unified")
    if scored and downstream is not None:
        for index, (column, name) in enumerate(_SCORES.items()):
            theme.line(
                figure, index, downstream.index, downstream[column], f"score, {name}", width=2.4, size=8, row=1, col=1,
                error_y=theme.error_bar(downstream.get(f"{column}_se"), thickness=1.2), hovertemplate="%{y:.3g}",
            )  # fmt: skip
        figure.update_yaxes(title_text=unit, row=1, col=1)
    row = 2 if scored else 1
    for index, signal in enumerate(signals):
        if not steps[signal.column].notna().any():
            continue
        theme.line(
            figure, index + 3, steps["step"], steps[signal.column], signal.title, width=2, size=7, dash="dash",
            row=row, col=1, hovertemplate="%{y:.3g}",
        )  # fmt: skip
    figure.update_yaxes(title_text="mean conflict", rangemode="tozero", row=row, col=1)
    if chosen_step is not None:
        figure.add_vline(x=chosen_step, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    names = [
        f"{step} · {theme.as_text(name, limit=14)}" for step, name in zip(steps["step"], steps["update"], strict=True)
    ]
    ticks, labels = list(steps["step"]), names
    if scored:
        ticks, labels = [0, *ticks], ["base", *labels]
    figure.update_xaxes(tickvals=ticks, ticktext=labels, gridcolor=theme.GRID)
    return figure
