"""Association of signals with targets: rank correlations with intervals, their points, and families of top cells."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.layer_grid import short_family

RHO = About(
    title="Rank correlation of every signal with the target",
    line="Filled: Spearman's ρ over the steps of many runs, with a 95 % interval over runs. Open: the same given the "
    "step index, because signals and forgetting both grow with time. 0 = no association. Grey bars: published |ρ|.",
    formula=r"\rho_{xy\cdot z}=\frac{\rho_{xy}-\rho_{xz}\rho_{yz}}{\sqrt{(1-\rho_{xz}^2)(1-\rho_{yz}^2)}}",
    source="Sec. 3 and appendix E; published values are those of the paper for forgetting, on other models",
)
POINTS = About(
    title="Signal against target, one point a step",
    line="Every point is one step of one run; the colour is the step, dark = early. A cloud that only follows the "
    "colours shows a trend over time, not an effect.",
)
FAMILIES = About(
    title="Families of the most conflicted cells",
    line="Share of the top (step, matrix) cells that each family holds: by geometry conflict, and by the lowest cosine "
    "of task gradients. Tick: share by chance. Similar bars = both are highest in the same families.",
)
PUBLISHED = {"global_gap": 0.59, "update_norm": 0.48, "state_gap": 0.45, "active_conflict": 0.30}
"""|ρ| with forgetting, as published (arXiv 2605.09608)."""


def correlations(table: pd.DataFrame, names: Mapping[str, str], published: bool) -> go.Figure:
    """Rows of :func:`gcwm_viz.statistics.association.association` for one group and target. names: titles of signals.

    published: whether to show the published |ρ| with forgetting. Undefined rows are left out.
    """
    defined = table[table["rho"].notna()]
    if defined.empty:
        return theme.nothing(RHO.title, "No correlation is defined here: too few runs, or constant signals.")
    defined = defined.reindex(defined["rho"].abs().sort_values(ascending=False).index)
    figure = theme.figure(RHO.title, height=int(170 + 34 * len(defined)), x="Spearman's ρ", legend=True)
    rows = np.arange(len(defined))
    if published:
        pairs = [(row, PUBLISHED[s]) for row, s in zip(rows, defined["signal"], strict=True) if s in PUBLISHED]
        for sign in (1, -1):
            figure.add_scatter(
                x=[sign * value for _, value in pairs],
                y=[row for row, _ in pairs],
                mode="markers",
                name="published |ρ|, either sign",
                showlegend=sign == 1 and bool(pairs),
                marker={"symbol": "line-ns", "size": 17, "line": {"width": 3, "color": theme.NEUTRAL}},
                hovertemplate="published %{x:.2f}<extra></extra>",
            )
    for column, low, high, name, shift, symbol, color in (
        ("rho", "low", "high", "ρ", -0.13, "circle", theme.OKABE_ITO[0]),
        ("partial", "partial_low", "partial_high", "ρ given the step", 0.17, "diamond-open", theme.OKABE_ITO[5]),
    ):
        figure.add_scatter(
            x=defined[column],
            y=rows + shift,
            mode="markers",
            name=name,
            marker={"size": 10, "line": {"width": 2}, "symbol": symbol, "color": color},
            error_x=theme.interval_bar(defined[column], defined[low], defined[high], thickness=1.6, color=color),
            text=[
                f"p over runs {theme.num(p)}, {n} runs" for p, n in zip(defined["p_runs"], defined["runs"], strict=True)
            ],
            hovertemplate="%{x:+.2f}, %{text}<extra>%{fullData.name}</extra>",
        )
    figure.add_vline(x=0, line={"color": theme.NEUTRAL, "width": 1.2})
    figure.update_yaxes(
        tickvals=list(rows), ticktext=[names.get(s, s) for s in defined["signal"]], range=[len(defined) - 0.4, -0.6],
        showgrid=False,
    )  # fmt: skip
    figure.update_xaxes(range=[-1.05, 1.05])
    return figure


def points(runs: pd.DataFrame, signal: str, target: str, x: str, y: str) -> go.Figure:
    """Scatter of ``target`` against ``signal``; x, y: axis titles."""
    defined = runs[runs[signal].notna() & runs[target].notna()]
    if defined.empty:
        return theme.nothing(POINTS.title, "Signal and target are never defined at the same step.")
    figure = theme.figure(POINTS.title, height=440, x=x, y=y)
    figure.add_scatter(
        x=defined[signal],
        y=defined[target],
        mode="markers",
        marker={
            "size": 8,
            "color": defined["step"],
            "colorscale": theme.SEQUENTIAL,
            "colorbar": {"title": {"text": "step"}, "thickness": 9, "outlinewidth": 0, "nticks": 6},
        },
        text=[theme.as_text(method) for method in defined["method"]],
        customdata=defined["step"],
        hovertemplate="%{text}, step %{customdata}: %{x:.3g}, %{y:.3g}<extra></extra>",
        name="steps",
    )
    return figure


def families(shares: pd.DataFrame) -> go.Figure:
    """Bars of :func:`gcwm_viz.signals.gradients.family_comparison`."""
    if shares.empty:
        return theme.nothing(FAMILIES.title, "No cell has both a conflict and a gradient cosine.")
    figure = theme.figure(FAMILIES.title, height=400, y="share of the top cells", legend=True)
    labels = [short_family(str(family)) for family in shares["family"]]
    for index, (column, name) in enumerate((("conflict", "highest conflict"), ("gradient", "lowest gradient cosine"))):
        figure.add_bar(x=labels, y=shares[column], name=name, marker={"color": theme.OKABE_ITO[index]})
    figure.add_scatter(
        x=labels,
        y=shares["expected"],
        mode="markers",
        name="by chance",
        marker={"symbol": "line-ew", "size": 26, "line": {"width": 3, "color": theme.NEUTRAL}},
    )
    figure.update_layout(barmode="group")
    figure.update_yaxes(tickformat=".0%")
    return figure
