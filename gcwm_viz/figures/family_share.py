"""Share of each module family in the top-k (step, matrix) cells."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.layer_grid import short_family
from gcwm_viz.signals.signal import Signal

ABOUT = About(
    title="Families among the highest cells",
    line="Share of the k highest (step, matrix) cells that each family holds. The tick is the share expected by "
    "chance; a bar beyond it means that the family is over-represented.",
    source="Sec. 3",
)


def family_shares(matrices: pd.DataFrame, column: str, k: int) -> pd.DataFrame:
    """Index family (table order); columns ``share`` among the k highest defined cells, ``expected``, ``cells``.

    All defined cells where there are fewer than k; empty where there are none. Ties keep the table's order.
    """
    defined = matrices[matrices[column].notna()]
    if defined.empty:
        return pd.DataFrame(columns=["share", "expected", "cells"], dtype=float)
    top = defined.nlargest(k, column)
    families = list(dict.fromkeys(defined["family"]))
    counts = top["family"].value_counts().reindex(families, fill_value=0)
    expected = defined["family"].value_counts(normalize=True).reindex(families)
    return pd.DataFrame({"share": counts / len(top), "expected": expected, "cells": counts})


def family_share(shares: pd.DataFrame, signal: Signal) -> go.Figure:
    """Bars of ``family_shares`` with the share expected by chance as a tick."""
    if shares.empty:
        return theme.nothing(ABOUT.title, f"{signal.title} is not defined for any matrix of this run.")
    figure = theme.figure(ABOUT.title, height=340, x="share of cells", legend=True)
    labels = [short_family(name) for name in shares.index]
    figure.add_bar(
        y=labels,
        x=shares["share"],
        orientation="h",
        marker={"color": theme.OKABE_ITO[0]},
        name=signal.title,
        customdata=shares["cells"],
        hovertemplate="%{y}: %{x:.0%}, %{customdata} cells<extra></extra>",
    )
    figure.add_scatter(
        y=labels,
        x=shares["expected"],
        mode="markers",
        name="expected by chance",
        marker={"symbol": "line-ns", "size": 20, "line": {"width": 3, "color": theme.OKABE_ITO[1]}},
        hovertemplate="%{y}: %{x:.0%} by chance<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False)
    figure.update_xaxes(tickformat=".0%", rangemode="tozero")
    return figure
