"""The loss of one probe example over the steps."""

import numpy as np
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Loss of the expected answer",
    line="Mean −log probability of its tokens after every step; lower = likelier. Filled: answered right. Dashed: the "
    "task's own expert.",
)
TEXT = About(
    title="Contribution of this text to the loss",
    line="What this text adds to the loss of its task after every step, in nats per token; the mean over texts is the "
    "score, so a short and easy one can be below zero. Dashed: the task's own expert.",
)


def example_loss(losses: list[float], right: list[float], expert: float, *, about: About = ABOUT) -> go.Figure:
    """A line over the steps. losses, right: by state, the base first, NaN where undefined; right is 1, 0 or NaN;
    expert: the loss of the task's own expert, or NaN."""
    if not np.isfinite(losses).any():
        return theme.nothing(about.title, "The run stores no loss of this example, or none is finite.")
    figure = theme.figure(about.title, height=250, x="step (0 = base)", y="nats per token")
    symbols = ["circle" if value == 1 else "circle-open" for value in right]
    theme.line(
        figure, 0, list(range(len(losses))), losses, "loss", width=2.2, size=10, marker_symbol=symbols,
        marker_line={"width": 2, "color": theme.OKABE_ITO[0]}, hovertemplate="step %{x}: %{y:.3g}<extra></extra>",
    )  # fmt: skip
    if np.isfinite(expert):
        figure.add_hline(y=expert, line={"color": theme.OKABE_ITO[1], "width": 1.6, "dash": "dash"})
    figure.update_xaxes(dtick=1 if len(losses) <= 15 else 2)
    if about is ABOUT:
        figure.update_yaxes(rangemode="tozero")
    return figure
