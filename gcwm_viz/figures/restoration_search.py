"""The smallest set of matrices found that brings back a chosen share, and what it costs."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Fewest cells that bring the task back",
    line="From left to right one more matrix is put back, each time the one that helps most. Blue: share of the "
    "harm undone. Orange: share of the arriving task's gain given up for it. Dashed: the share asked for.",
)
_LINES = {"recovered": "harm undone", "cost": "gain given up"}
_NAMED = 11


def restoration_search(steps: pd.DataFrame, *, target: float) -> go.Figure:
    """Lines over the number of cells undone. steps: columns k (0 or 1, 2, …), cell (the one added, escaped here),
    recovered and cost (shares; 1 = all of it; they can leave [0, 1]). target: the share of ``recovered`` asked for.

    The first k that reaches the target is marked and stated in the title.
    """
    drawn = [column for column in _LINES if np.isfinite(steps[column].astype(float)).any()]
    if "recovered" not in drawn:
        return theme.nothing(ABOUT.title, "No search has been run yet, or the task's loss did not change.")
    steps = steps.sort_values("k", kind="stable")
    reached = steps[steps["recovered"].astype(float) >= target]
    title = f"{steps['k'].max()} cells do not undo {theme.percent(target)} of the harm"
    if len(reached):
        first = reached.iloc[0]
        many = "1 cell undoes" if first["k"] == 1 else f"{first['k']} cells undo"
        title = f"{many} {theme.percent(float(first['recovered']))} of the harm ({theme.percent(target)} asked for)"
    figure = theme.figure(title, height=390, x="cells undone", y="share", legend=True)
    figure.add_hline(y=target, line={"color": theme.NEUTRAL, "width": 1.4, "dash": "dash"})
    figure.add_hline(y=0, line={"color": theme.NEUTRAL, "width": 1})
    cells = [theme.as_text(cell, limit=40) for cell in steps["cell"]]
    for index, column in enumerate(_LINES):
        if column in drawn:
            theme.line(
                figure, index, steps["k"], steps[column].where(np.isfinite(steps[column].astype(float)), None),
                _LINES[column], width=2.4, size=7, customdata=cells,
                hovertemplate=f"%{{x}} cells, + %{{customdata}}: %{{y:.1%}}<extra>{_LINES[column]}</extra>",
            )  # fmt: skip
    if len(reached):
        figure.add_scatter(
            x=[first["k"]], y=[first["recovered"]], mode="markers", name="target reached", hoverinfo="skip",
            marker={"symbol": "diamond", "size": 14, "color": theme.OKABE_ITO[5]},
        )  # fmt: skip
    shares = steps[list(_LINES)].to_numpy(dtype=float)
    shares = shares[np.isfinite(shares)]
    figure.update_yaxes(tickformat=".0%", range=[min(0.0, shares.min()) - 0.05, max(1.0, target, shares.max()) + 0.05])
    figure.update_layout(legend_y=-0.32)
    if len(steps) <= _NAMED:
        names = [f"{k}<br>{theme.as_text(c, limit=10)}" for k, c in zip(steps["k"], steps["cell"], strict=True)]
        figure.update_xaxes(tickvals=list(steps["k"]), ticktext=names, tickangle=0, tickfont_size=11)
    return figure
