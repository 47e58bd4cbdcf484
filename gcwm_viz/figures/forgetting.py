"""Forgetting by task at one step, and forgetting, transfer and plasticity over the steps."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

BY_TASK = About(
    title="Forgetting by task",
    line="Best earlier score minus the score at this step. Positive = lost, negative = gained since.",
    formula=r"F_{t,u}=\max_{s<t}R[s,u]-R[t,u]",
    source="Sec. 5",
)
COURSE = About(
    title="Forgetting, transfer and plasticity over the steps",
    line="Forgetting: positive = lost. Backward transfer: negative = lost since learned. Plasticity gap: positive = "
    "new skill at the cost of old ones.",
    formula=r"\mathrm{BWT}_t=\operatorname{mean}_{u<t}(R[t,u]-R[u,u])",
    source="Sec. 5",
)
_LINES = {
    "forgetting": "forgetting",
    "bwt": "backward transfer",
    "plasticity_gap": "plasticity gap",
    "immediate_drop": "change in this step",
}


def forgetting_by_task(lost: pd.Series) -> go.Figure:
    """Bars of one row of the forgetting matrix (index task); tasks without a value are left out."""
    defined = lost.dropna()
    if defined.empty:
        return theme.nothing(BY_TASK.title, "Forgetting needs two scored steps; this step has no earlier one.")
    figure = theme.figure(BY_TASK.title, height=360, x="score lost since its best")
    figure.add_bar(
        y=[theme.as_text(name, limit=22) for name in defined.index],
        x=defined,
        orientation="h",
        marker={"color": [theme.OKABE_ITO[5] if value > 0 else theme.OKABE_ITO[0] for value in defined]},
        hovertemplate="%{y}: %{x:+.3g}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, type="category")
    figure.update_xaxes(zeroline=True, zerolinecolor=theme.NEUTRAL)
    return figure


def forgetting_course(downstream: pd.DataFrame) -> go.Figure:
    """Lines over steps of forgetting, BWT, plasticity gap and immediate drop (columns of ``downstream``)."""
    drawn = [column for column in _LINES if downstream.get(column, pd.Series(dtype=float)).notna().any()]
    if not drawn:
        return theme.nothing(COURSE.title, "These need two scored steps; this run has fewer.")
    figure = theme.figure(COURSE.title, height=360, x="step", y="difference of scores", legend=True)
    for column in drawn:
        theme.line(
            figure, list(_LINES).index(column), downstream.index, downstream[column], _LINES[column], width=2, size=7,
            hovertemplate="step %{x}: %{y:+.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.update_yaxes(zeroline=True, zerolinecolor=theme.NEUTRAL)
    figure.update_xaxes(dtick=1 if len(downstream) <= 14 else 2)
    return figure
