"""How many probe examples each step loses, learns and regains."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Answers that changed at each step",
    line="Examples whose answer turned right (up) or wrong (down) at the step, against the state before it. Learned: "
    "never right before. Regained: right again after it was lost.",
)
_BARS = {
    "learned": (theme.OKABE_ITO[0], ""),
    "regained": (theme.OKABE_ITO[4], "/"),
    "lost": (theme.OKABE_ITO[5], ""),
}
"""Status → colour and pattern; lost points down."""


def flips(counts: pd.DataFrame, updates: list[str], *, chosen_step: int | None = None) -> go.Figure:
    """Bars over steps, in examples. counts: rows of :func:`gcwm_viz.runs.examples.flips`, summed over their tasks;
    updates: names by arrival."""
    if counts.empty:
        return theme.nothing(ABOUT.title, "A loss alone is neither right nor wrong.")
    by_step = counts.drop(columns="task").groupby("step").sum()
    by_step = by_step[by_step["unknown"] < by_step["n"]]
    if by_step.empty:
        return theme.nothing(ABOUT.title, "No step was scored, or no value defined.")
    figure = theme.figure(ABOUT.title, height=300, x="step", y="examples", legend=True)
    names = [theme.as_text(updates[step - 1], limit=24) for step in by_step.index]
    for status, (colour, pattern) in _BARS.items():
        figure.add_bar(
            x=by_step.index,
            y=-by_step[status] if status == "lost" else by_step[status],
            name=status,
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "size": 5}},
            text=names,
            textposition="none",
            customdata=by_step[[status, "n"]],
            hovertemplate=f"step %{{x}} · %{{text}}: %{{customdata[0]}} of %{{customdata[1]}} {status}<extra></extra>",
        )
    figure.update_layout(barmode="relative", bargap=0.35, legend_y=-0.28)
    if chosen_step in by_step.index:
        figure.add_vline(x=chosen_step, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"}, layer="below")
    first, last = by_step.index[0], by_step.index[-1]
    figure.update_xaxes(dtick=1 if last - first < 10 else 2, range=[first - 0.6, last + 0.6], showgrid=False)
    figure.update_yaxes(zeroline=True, zerolinecolor=theme.NEUTRAL, tickformat="d")
    return figure
