"""The inner solver of one matrix: objective and distance from the start by iteration, for both branches."""

import math
from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

OBJECTIVE = About(
    title="Objective along the iterations",
    line="What the merge minimises, as a share of its value at the start (the plain sum of updates). Lower = solved "
    "further; a flat line at 1 = the solver has not moved. The dotted line of a branch's colour is the lowest value it "
    "could reach.",
    formula=r"\sum_i\omega_i\frac{\lVert(M-\Delta_i)\Delta_i^{\top}\rVert_F^2}{\lVert\Delta_i\rVert_F^2}",
    source="appendix B",
)
SHIFT = About(
    title="Distance from the plain sum of updates",
    line="Distance of each branch from its starting point, as a share of that point's size, in its own coordinates "
    "(whitened for the geometry branch). Near 0 = still the plain sum of updates.",
    formula=r"\lVert M_k-M_0\rVert_F/\lVert M_0\rVert_F",
    source="appendix B",
)
BRANCHES = {"plain": "plain branch", "geo": "geometry branch"}


def objective_path(solver: pd.DataFrame, minima: Mapping[str, float] | None = None) -> go.Figure:
    """Objective over its value at the start by iteration, a line a branch; rows of ``solver`` of a matrix and step.

    minima: lowest reachable value of a branch over its start, drawn as a line; NaN is left out.
    """
    figure = _paths(solver, "objective", OBJECTIVE, relative=True)
    if not figure.data:
        return figure
    figure.update_yaxes(title_text="objective / start", rangemode="tozero")
    for index, (branch, name) in enumerate(BRANCHES.items()):
        lowest = (minima or {}).get(branch, float("nan"))
        if not math.isfinite(lowest):
            continue
        figure.add_hline(y=lowest, line={"color": theme.category(index)["color"], "width": 1.2, "dash": "dot"})
        for line in figure.data:
            if line.name == name:
                line.name = f"{name}, at best {theme.num(lowest)}"
    return figure


def shift_path(solver: pd.DataFrame) -> go.Figure:
    """Distance from the start by iteration, a line a branch; the same rows."""
    recorded = solver["relative_shift"].notna().any()
    figure = _paths(solver, "relative_shift" if recorded else "shift", SHIFT, relative=False)
    if figure.data:
        title = "distance / size of the start" if recorded else "distance from the start, absolute"
        figure.update_yaxes(title_text=title, rangemode="tozero")
    return figure


def solved_at_once(matrix: pd.Series, branch: str, name: str) -> str:
    """What the closed form reached in one branch, in a sentence: its path would be one straight line. matrix: a row of
    ``matrices``."""
    end, lowest, shift = (matrix[f"{branch}_{column}"] for column in ("objective", "minimum", "shift"))
    if math.isfinite(end):
        return (
            f"{name.capitalize()}: the objective fell to {theme.num(end)} of its value at the plain sum of updates "
            f"(lowest reachable {theme.num(lowest)}), at a distance of {theme.percent(shift)} of that sum's norm."
        )
    if shift == 0:
        return f"{name.capitalize()}: the plain sum of updates is its solution already."
    return f"{name.capitalize()}: not solved at this step."


def _paths(solver: pd.DataFrame, column: str, about: About, *, relative: bool) -> go.Figure:
    rows = solver[solver[column].notna()]
    if rows.empty:
        return theme.nothing(about.title, "No solver path is stored for this matrix at this step.")
    figure = theme.figure(about.title, height=380, x="iteration", legend=True)
    for index, (branch, name) in enumerate(BRANCHES.items()):
        path = rows[rows["branch"] == branch].sort_values("iteration")
        if path.empty:
            continue
        y = path[column] / path[column].iloc[0] if relative and path[column].iloc[0] > 0 else path[column]
        theme.line(
            figure, index, path["iteration"], y, name, width=2.2, size=8, dash="solid" if index == 0 else "dash",
            mode="lines+markers" if len(path) <= 40 else "lines",
            hovertemplate="iteration %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    if rows["iteration"].max() <= 12:
        figure.update_xaxes(dtick=1)
    if relative:
        figure.add_hline(y=1, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    return figure
