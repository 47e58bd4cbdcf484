"""Losses of a calibration over its passes."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Loss over the passes of the calibration",
    line="Mean over tasks on the development probes that are fitted and on those held out, in nats per token; lower = "
    "better. Pass 0 is the merged model, the dotted line the pass whose coefficients were kept: the lowest held-out "
    "loss. Where the held-out line turns up, more passes would only fit the probes better.",
)
_LINES = {"fitted": "fitted probes", "held_out": "held-out probes"}


def calibration_curve(curve: pd.DataFrame) -> go.Figure:
    """Lines over the passes. curve: the table ``calibration_curve`` (pass, fitted, held_out, kept)."""
    drawn = [column for column in _LINES if curve[column].notna().any()]
    if not drawn:
        return theme.nothing(ABOUT.title, "This run has not been calibrated.")
    figure = theme.figure(ABOUT.title, height=340, x="passes", y="nats per token", legend=True)
    for kept in curve.loc[curve["kept"].astype(bool), "pass"]:
        figure.add_vline(x=kept, line={"color": theme.NEUTRAL, "width": 1.2, "dash": "dot"})
    for index, column in enumerate(drawn):
        theme.line(
            figure, index, curve["pass"], curve[column].astype(float), _LINES[column], width=2.2, size=5,
            hovertemplate=f"after %{{x}} passes: %{{y:.4f}}<extra>{_LINES[column]}</extra>",
        )  # fmt: skip
    figure.update_yaxes(rangemode="tozero")
    return figure
