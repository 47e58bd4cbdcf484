"""Scores of the same merge at other strengths, on the development probes."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.statistics.means import error_over_tasks

ABOUT = About(
    title="Strength of the merge",
    line="Score on the development probes of the base with s times the merged update; the merged model is at 1. Bold: "
    "mean over tasks, with a 95 % interval. A peak away from 1 says that another step size η would keep more.",
    formula=r"\theta_\mathrm{pre}+s\,S_T",
)


BY_ETA = About(
    title=ABOUT.title,
    line="Score on the development probes of the base with η times the merged update, at every η that the run tried. "
    "Bold: mean over tasks, with a 95 % interval. Dotted: the η of the run.",
    formula=r"\theta_\mathrm{pre}+\eta\,\Delta_\mathrm{merge}",
)


def strength(values: pd.DataFrame, errors: pd.DataFrame, unit: str, eta: float | None = None) -> go.Figure:
    """Lines over the strength, one a task, and their mean.

    values, errors: scores and their standard errors; index strength ascending, one column a task. eta: of a run that
    chose it, by which strengths are then shown.
    """
    if eta is not None:
        values, errors = (frame.set_axis(frame.index * eta) for frame in (values, errors))
    if values.empty:
        return theme.nothing(ABOUT.title, "No other strength was tried: that takes a merge and development probes.")
    axis = "strength s, in units of the merged update" if eta is None else "η"
    figure = theme.figure(ABOUT.title, height=360, x=axis, y=unit, legend=True)
    figure.add_vline(x=1 if eta is None else eta, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    name = "s" if eta is None else "η"
    for index, task in enumerate(values):
        theme.line(
            figure, index, values.index, values[task], theme.as_text(task, limit=22), width=1.3, size=6, opacity=0.85,
            marker_color=theme.category(index)["color"],
            hovertemplate=f"{name} = %{{x:.3g}}: %{{y:.3g}}<extra>%{{fullData.name}}</extra>",
        )  # fmt: skip
    error = errors.apply(error_over_tasks, axis=1)
    figure.add_scatter(
        x=values.index,
        y=values.mean(axis=1),
        name="mean over tasks",
        mode="lines+markers",
        line={"color": theme.NEUTRAL, "width": 3},
        marker={"symbol": "diamond", "size": 10, "color": theme.NEUTRAL},
        error_y=theme.error_bar(error, width=4, thickness=1.8),
        hovertemplate=f"{name} = %{{x:.3g}}: %{{y:.3g}}<extra>mean over tasks</extra>",
    )
    figure.update_xaxes(tickvals=list(values.index), ticktext=[f"{x:.2g}" for x in values.index])
    return figure
