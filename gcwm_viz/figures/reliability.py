"""Forecast probabilities of harm against how often harm came."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from scipy.stats import binomtest

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Reliability of the forecast",
    line="Updates with a similar forecast probability of lowering the score, and the share of them that did. On the "
    "diagonal = as often as forecast; above it, harm came more often. Larger = more updates; bars: 95 % (Wilson), as "
    "if the updates were independent.",
)
NEEDS = {"updates": "from the updates alone", "prompts": "with prompts", "labels": "with labelled probes"}
"""What a forecast uses, in words."""


def reliability(rows: pd.DataFrame) -> go.Figure:
    """Points with intervals, a line for every value of ``needs``.

    rows: of results/reliability.csv, of one method and setting: columns needs, forecast (mean probability of a bin),
    observed (share), n. Both in [0, 1]. A bin without updates is left out.
    """
    known = rows[(rows["n"] > 0) & rows["forecast"].notna() & rows["observed"].notna()]
    if known.empty:
        return theme.nothing(ABOUT.title, "The benchmark has no forecasts for this case.")
    figure = theme.figure(
        ABOUT.title, height=400, x="forecast probability that it lowers the score", y="share that did", legend=True
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", name="as often as forecast", hoverinfo="skip",
        line={"color": theme.NEUTRAL, "width": 1.6, "dash": "dash"},
    )  # fmt: skip
    for index, (needs, name) in enumerate(NEEDS.items()):
        own = known[known["needs"] == needs].sort_values("forecast")
        if own.empty:
            continue
        look = theme.category(index)
        low, high = _wilson(own)
        figure.add_scatter(
            x=own["forecast"],
            y=own["observed"],
            mode="lines+markers",
            name=name,
            line={"color": look["color"], "width": 1.4},
            marker={
                # Area is proportional to the number of updates, with a floor that stays visible.
                "size": 8 + 20 * np.sqrt(own["n"] / known["n"].max()),
                "color": look["color"],
                "symbol": look["symbol"],
                "opacity": 1,
            },
            error_y=theme.interval_bar(own["observed"], low, high, thickness=1.6, width=4, color=look["color"]),
            text=[
                f"{theme.percent(share)} of {n} updates did [{theme.percent(a)}, {theme.percent(b)}]"
                for share, n, a, b in zip(own["observed"], own["n"], low, high, strict=True)
            ],
            hovertemplate="forecast %{x:.0%}: %{text}<extra></extra>",
        )
    figure.update_xaxes(range=[-0.04, 1.04], tickformat=".0%")
    figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%")
    return figure


def _wilson(rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Ends of the 95 % interval of every share."""
    found = [
        binomtest(round(share * n), int(n)).proportion_ci(method="wilson")
        for share, n in zip(rows["observed"], rows["n"], strict=True)
    ]
    low, high = ([float(getattr(each, end)) for each in found] for end in ("low", "high"))
    return pd.Series(low, index=rows.index), pd.Series(high, index=rows.index)
