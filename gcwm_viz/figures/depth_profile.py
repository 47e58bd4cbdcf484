"""Signals by depth: the mean over a layer's matrices."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.signals.signal import Signal

ABOUT = About(
    title="Depth profile",
    line="Mean over each layer's matrices, from the input side (left) to the output side (right). "
    "Higher = more conflict. The band spans the layer's matrices for the first signal.",
)


def depth_profile(cells: pd.DataFrame, signals: Sequence[Signal], chosen_layer: int | None = None) -> go.Figure:
    """One line a signal over layers; ``cells`` are rows of ``matrices`` of one step. All-NaN signals are left out."""
    drawn = [signal for signal in signals if cells[signal.column].notna().any()]
    if not drawn:
        return theme.nothing(ABOUT.title, "None of these signals is defined at this step.")
    figure = theme.figure(ABOUT.title, height=340, x="layer", y="conflict", legend=True)
    layers = cells.groupby("layer")
    first = layers[drawn[0].column].agg(["min", "max"]).dropna()
    figure.add_scatter(
        x=[*first.index, *first.index[::-1]],
        y=[*first["max"], *first["min"][::-1]],
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor=theme.faded(theme.OKABE_ITO[0], 0.13),
        hoverinfo="skip",
        showlegend=False,
        name="range",
    )
    for index, signal in enumerate(drawn):
        means = layers[signal.column].mean()
        theme.line(
            figure, index, means.index, means, signal.title, width=2, size=7,
            hovertemplate="layer %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    if chosen_layer is not None:
        figure.add_vline(x=chosen_layer, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    figure.update_xaxes(dtick=max(1, len(means) // 12), tick0=0)
    figure.update_yaxes(rangemode="tozero")
    return figure
