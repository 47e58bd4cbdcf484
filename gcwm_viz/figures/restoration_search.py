"""The smallest set of matrices found that brings back a chosen share, and what it costs."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Fewest cells that bring the task back",
    line="From left to right more matrices are put back, those with the most attribution first. Blue: share of the "
    "earlier tasks' loss that comes back. Orange: share of the arriving task's gain given up for it. Dashed: the share "
    "asked for. Only the sets that the search needed were scored.",
)
_LINES = {"recovered": "loss brought back", "cost": "gain given up"}


def restoration_search(trials: pd.DataFrame, *, target: float, kept: int, recovered: float) -> go.Figure:
    """Lines over the number of leading matrices put back. trials: columns k, recovered and cost (shares; 1 = all of it;
    they can leave [0, 1]), in any order. target: the share of ``recovered`` asked for.

    kept, recovered: size and share of the set that the search ended with, stated in the title.
    """
    drawn = [column for column in _LINES if np.isfinite(trials[column].astype(float)).any()]
    if "recovered" not in drawn:
        return theme.nothing(ABOUT.title, "No search has been run yet, or the task's loss did not change.")
    steps = trials.sort_values("k", kind="stable")
    reached = steps[steps["recovered"].astype(float) >= target]
    many = "1 matrix brings" if kept == 1 else f"{kept} matrices bring"
    title = f"{many} {theme.percent(recovered)} back ({theme.percent(target)} asked for)"
    figure = theme.figure(title, height=390, x="matrices put back", y="share", legend=True)
    figure.add_hline(y=target, line={"color": theme.NEUTRAL, "width": 1.4, "dash": "dash"})
    figure.add_hline(y=0, line={"color": theme.NEUTRAL, "width": 1})
    for index, column in enumerate(_LINES):
        if column in drawn:
            theme.line(
                figure, index, steps["k"], steps[column].where(np.isfinite(steps[column].astype(float)), None),
                _LINES[column], width=2.4, size=7,
                hovertemplate=f"%{{x}} matrices: %{{y:.1%}}<extra>{_LINES[column]}</extra>",
            )  # fmt: skip
    if len(reached):
        first = reached.iloc[0]
        figure.add_scatter(
            x=[first["k"]], y=[first["recovered"]], mode="markers", name="target reached", hoverinfo="skip",
            marker={"symbol": "diamond", "size": 14, "color": theme.OKABE_ITO[5]},
        )  # fmt: skip
    figure.update_xaxes(dtick=max(1, int(steps["k"].max()) // 8))
    shares = steps[list(_LINES)].to_numpy(dtype=float)
    shares = shares[np.isfinite(shares)]
    figure.update_yaxes(tickformat=".0%", range=[min(0.0, shares.min()) - 0.05, max(1.0, target, shares.max()) + 0.05])
    figure.update_layout(legend_y=-0.32)
    return figure
