"""The inner solver of one matrix: objective and way from the start, along the iterations of both branches."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

OBJECTIVE = About(
    title="Objective along the iterations",
    line="What the merge minimises, as a share of its value at the start (the plain sum of updates). Lower = solved "
    "further; a flat line at 1 = the solver has not moved.",
    formula=r"\sum_i\omega_i\frac{\lVert(M-\Delta_i)\Delta_i^{\top}\rVert_F^2}{\lVert\Delta_i\rVert_F^2}",
    source="appendix B",
)
SHIFT = About(
    title="Way from the plain sum of updates",
    line="Distance of each branch from its starting point, in its own coordinates (whitened for the geometry branch). "
    "Near 0 = still the plain sum, so the branches differ by where they began, not by the solver's work.",
    formula=r"\lVert M_k-M_0\rVert_F",
    source="appendix B",
)
BRANCHES = {"plain": "plain branch", "geo": "geometry branch"}


def objective_path(solver: pd.DataFrame) -> go.Figure:
    """objective / first objective by iteration, a line a branch; rows of ``solver`` of one matrix at one step."""
    made = _paths(solver, "objective", OBJECTIVE, relative=True)
    made.update_yaxes(title_text="objective / start")
    return made


def shift_path(solver: pd.DataFrame) -> go.Figure:
    """Distance from the start by iteration, a line a branch; the same rows."""
    made = _paths(solver, "shift", SHIFT, relative=False)
    made.update_yaxes(title_text="distance from start", rangemode="tozero")
    return made


def _paths(solver: pd.DataFrame, column: str, about: About, *, relative: bool) -> go.Figure:
    rows = solver[solver[column].notna()]
    if rows.empty:
        return theme.nothing(about.title, "No solver path is stored for this matrix at this step.")
    made = theme.figure(about.title, height=380, x="iteration", legend=True)
    for index, (branch, name) in enumerate(BRANCHES.items()):
        path = rows[rows["branch"] == branch].sort_values("iteration")
        if path.empty:
            continue
        look = theme.category(index)
        y = path[column] / path[column].iloc[0] if relative and path[column].iloc[0] > 0 else path[column]
        made.add_scatter(
            x=path["iteration"],
            y=y,
            name=name,
            mode="lines+markers" if len(path) <= 40 else "lines",
            line={"color": look["color"], "width": 2.2, "dash": "solid" if index == 0 else "dash"},
            marker={"symbol": look["symbol"], "size": 8},
            hovertemplate="iteration %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
        )
    if rows["iteration"].max() <= 12:
        made.update_xaxes(dtick=1)
    if relative:
        made.add_hline(y=1, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    return made
