"""How the barycenter of one matrix converged."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="How the barycenter converged",
    line="Relative residual of the barycenter's fixed point at every iteration, on a log scale. Lower = closer to the "
    "true mean; below the dotted line it counts as converged.",
    formula=r"\lVert\Phi(B)-B\rVert_F/\lVert B\rVert_F",
    source="equation (7)",
)


def barycenter_path(rows: pd.DataFrame, tolerance: float) -> go.Figure:
    """Residual by iteration on a log axis; rows of ``barycenter`` of one matrix at one step."""
    rows = rows[rows["residual"].notna()]
    if rows.empty:
        return theme.nothing(ABOUT.title, "No barycenter was computed here: no update, or a metric without one.")
    residual = rows["residual"].to_numpy(dtype=float)
    if not (residual > tolerance * 1e-6).any():
        return theme.nothing(ABOUT.title, "The start was the barycenter already: one update, or equal ones.")
    figure = theme.figure(ABOUT.title, height=400, x="iteration", y="relative residual")
    figure.add_scatter(
        x=rows["iteration"],
        y=np.where(residual > 0, residual, np.nan),
        mode="lines+markers",
        name="residual",
        line={"color": theme.OKABE_ITO[0], "width": 2.2},
        marker={"size": 6},
        hovertemplate="iteration %{x}: %{y:.2e}<extra></extra>",
    )
    figure.add_hline(y=tolerance, line={"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"})
    label = f"tolerance {theme.num(tolerance)}"
    theme.note(figure, label, x=0, xref="paper", xanchor="left", y=np.log10(tolerance), yanchor="bottom")
    smallest = min(float(residual[residual > 0].min()), tolerance)
    figure.update_yaxes(
        type="log",
        exponentformat="power",
        dtick=max(1, round(np.log10(residual.max() / smallest) / 6)),
        range=[np.log10(smallest) - 0.6, np.log10(residual.max()) + 0.4],
    )
    return figure
