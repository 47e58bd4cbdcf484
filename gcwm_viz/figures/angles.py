"""Principal angles between the subspaces of the active updates of one matrix."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Angles between the updates' subspaces",
    line="How far apart the leading directions of two updates lie, closest pair of directions first. 0° = a direction "
    "that both use, 90° = one that the other does not touch. In colour: pairs with the arriving update.",
    formula=r"\cos\theta_k=\sigma_k(V_i^{\top}V_j)",
    source="Alg. 1, at the gate's rank",
)


def angles(pairs: pd.DataFrame, arriving: str) -> go.Figure:
    """One line a pair of active updates; ``pairs`` are the rows of one matrix at one step.

    arriving: the update whose pairs are drawn in colour; all others share one grey trace.
    """
    lines = pair_angles(pairs)
    if not lines:
        return theme.nothing(ABOUT.title, "No angles are recorded: they need two active updates at this matrix.")
    figure = theme.figure(ABOUT.title, height=400, x="direction, closest first", y="angle in degrees", legend=True)
    others = [(i, j, values) for i, j, values in lines if arriving not in (i, j)]
    if others:
        x: list[Any] = []
        y: list[Any] = []
        labels: list[str] = []
        for i, j, values in others:
            x += [*range(1, len(values) + 1), None]
            y += [*values, None]
            labels += [f"{theme.as_text(i, limit=24)} and {theme.as_text(j, limit=24)}"] * (len(values) + 1)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name="earlier pairs",
            text=labels,
            line={"color": "rgba(139,146,156,0.55)", "width": 1.3},
            hovertemplate="direction %{x}: %{y:.1f}°<extra>%{text}</extra>",
        )
    for index, (i, j, values) in enumerate(line for line in lines if arriving in line[:2]):
        name = f"with {theme.as_text(j if i == arriving else i, limit=24)}"
        theme.line(
            figure, index, list(range(1, len(values) + 1)), values, name, width=2, size=6,
            dash=theme.category(index)["dash"],
            hovertemplate="direction %{x}: %{y:.1f}°<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    longest = max(len(values) for _, _, values in lines)
    figure.update_xaxes(dtick=max(1, longest // 16), tick0=1)
    figure.update_yaxes(range=[-2, 92], tickvals=[0, 15, 30, 45, 60, 75, 90], ticksuffix="°")
    return figure


def pair_angles(pairs: pd.DataFrame) -> list[tuple[str, str, list[float]]]:
    """(i, j, angles in degrees) of the active pairs that have them, in the table's order."""
    active = pairs[pairs["kind"] == "active"]
    return [
        (str(i), str(j), [float(value) for value in values])
        for i, j, values in zip(active["i"], active["j"], active["principal_angles"], strict=True)
        if np.size(values) and not np.isscalar(values)  # NaN in a run of an older version
    ]
