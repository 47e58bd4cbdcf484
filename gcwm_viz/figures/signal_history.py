"""One signal over the steps: the chosen matrix among all of them."""

from collections.abc import Collection

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.layer_grid import short_family
from gcwm_viz.signals.signal import Signal

ABOUT = About(
    title="The chosen matrix over the steps",
    line="The signal after every step: in the chosen matrix, on average over the selected cells where there are any, "
    "and the middle 80 % of all matrices as a band.",
)


def signal_history(
    matrices: pd.DataFrame,
    signal: Signal,
    chosen: tuple[int, str],
    selected: Collection[tuple[int, str]] = (),
    chosen_step: int | None = None,
) -> go.Figure:
    """Lines over steps. matrices: all rows of the table. chosen: (layer, family); selected: several more."""
    title = f"{signal.title}: layer {chosen[0]}, {short_family(chosen[1])}"
    if not matrices[signal.column].notna().any():
        return theme.nothing(title, f"{signal.title} is not defined at any step of this run.")
    figure = theme.figure(title, height=340, x="step", legend=True)
    steps = matrices.groupby("step")[signal.column]
    band = pd.DataFrame({"low": steps.quantile(0.1), "median": steps.median(), "high": steps.quantile(0.9)}).dropna()
    figure.add_scatter(
        x=[*band.index, *band.index[::-1]], y=[*band["high"], *band["low"][::-1]], fill="toself", mode="lines",
        line={"width": 0}, fillcolor=theme.faded(theme.OKABE_ITO[0], 0.13), hoverinfo="skip",
        name="middle 80 % of matrices",
    )  # fmt: skip
    theme.line(
        figure, 0, band.index, band["median"], "median", width=1.2, size=4, dash="dot",
        hovertemplate="step %{x}: %{y:.3g}<extra>median of all matrices</extra>",
    )  # fmt: skip
    cells = pd.MultiIndex.from_frame(matrices[["layer", "family"]])
    if selected:
        means = matrices[cells.isin(list(selected))].groupby("step")[signal.column].mean()
        name = f"mean of {len(selected)} selected"
        theme.line(
            figure, 1, means.index, means, name, width=2, size=7, dash="dash",
            hovertemplate="step %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    own = matrices[cells.isin([chosen])].sort_values("step")
    theme.line(
        figure, 5, own["step"], own[signal.column], f"layer {chosen[0]}, {short_family(chosen[1])}", width=2.6, size=8,
        hovertemplate="step %{x}: %{y:.3g}<extra>%{fullData.name}</extra>",
    )  # fmt: skip
    if chosen_step is not None:
        figure.add_vline(x=chosen_step, line={"color": theme.NEUTRAL, "width": 1, "dash": "dot"})
    figure.update_xaxes(dtick=1)
    return figure
