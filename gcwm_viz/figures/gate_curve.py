"""The gate: its sigmoid with every matrix of a step on it."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.layer_grid import short_family
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.gate import gate
from gcwm_viz.signals.catalogue import ALPHA

ABOUT = About(
    title="The gate and every matrix on it",
    line="Each point is a matrix: its conflict g (right = more conflict) and the share α of the geometry branch that "
    "the gate gives it (up = more geometry).",
    formula=ALPHA.formula,
    source="equation (6)",
)


def gate_curve(
    cells: pd.DataFrame, config: GCWMConfig, *, before: GCWMConfig | None = None, chosen: str | None = None
) -> go.Figure:
    """Sigmoid of ``config`` with the matrices of one step (columns matrix, family, conflict).

    before: settings to compare with, drawn as a dashed curve. chosen: name of the matrix to circle.
    Matrices without a conflict (fewer than two updates) are left out; their number is in the title.
    """
    defined = cells[cells["conflict"].notna()]
    missing = len(cells) - len(defined)
    if defined.empty:
        return theme.nothing(ABOUT.title, "No matrix has a conflict at this step: a gate needs two updates or more.")
    title = ABOUT.title if not missing else f"{ABOUT.title} ({missing} without a conflict are left out)"
    figure = theme.figure(title, height=440, x="layer conflict g", y="α, share of the geometry branch", legend=True)
    top = float(max(0.3, min(1.0, defined["conflict"].max() * 1.15)))
    grid = np.linspace(0, top, 161)
    curves: list[tuple[str, GCWMConfig, float, str]] = [("gate", config, 3, "")]
    if before is not None and before != config:
        curves.insert(0, ("as run", before, 1.5, "dash"))
    for name, settings, width, dash in curves:
        line = {"color": theme.NEUTRAL, "width": width, "dash": dash or None}
        figure.add_scatter(x=grid, y=gate(grid, settings), mode="lines", name=name, hoverinfo="skip", line=line)
    for index, (family, rows) in enumerate(defined.groupby("family", sort=False)):
        style = theme.category(index)
        figure.add_scatter(
            x=rows["conflict"],
            y=gate(rows["conflict"].to_numpy(), config),
            mode="markers",
            name=short_family(str(family)),
            text=[theme.as_text(name) for name in rows["matrix"]],
            marker={"color": style["color"], "symbol": style["symbol"], "size": 9, "opacity": 0.85},
            hovertemplate="%{text}<br>g %{x:.3g}, α %{y:.3g}<extra></extra>",
        )
    ringed = defined[defined["matrix"] == chosen]
    if len(ringed):
        figure.add_scatter(
            x=ringed["conflict"],
            y=gate(ringed["conflict"].to_numpy(), config),
            mode="markers",
            hoverinfo="skip",
            marker={"size": 17, "symbol": "circle-open", "color": theme.NEUTRAL, "line": {"width": 2.5}},
            name="chosen matrix",
        )
    if config.gate != "none":
        figure.add_vline(x=config.tau, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
        theme.note(figure, f"τ = {theme.num(config.tau)}", x=config.tau, y=0.02, yref="paper", xanchor="left", xshift=5)
    figure.update_yaxes(range=[-0.02, 1.02])
    figure.update_xaxes(range=[0, top])
    return figure
