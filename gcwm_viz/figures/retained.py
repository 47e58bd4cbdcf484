"""What is kept of earlier tasks, step by step, by one or more ways of learning."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Kept of earlier tasks",
    line="Mean score on the tasks that came before each step; higher = less forgotten.",
    source="Sec. 5",
)


def retained(courses: Mapping[str, pd.Series], *, unit: str, height: int = 420) -> go.Figure:
    """Lines over steps. courses: name → mean score on earlier tasks by step (NaN where there is none)."""
    drawn = {name: values.astype(float).dropna() for name, values in courses.items()}
    if not any(len(values) for values in drawn.values()):
        return theme.nothing(ABOUT.title, "No step has an earlier task that was scored.")
    made = theme.figure(ABOUT.title, height=height, x="step", y=unit, legend=True)
    for index, (name, values) in enumerate(drawn.items()):
        theme.line(
            made, index, values.index, values, theme.as_text(name), width=4, size=13,
            dash=theme.category(index)["dash"], hovertemplate="step %{x}: %{y:.3g}",
        )  # fmt: skip
    made.update_xaxes(dtick=1)
    made.update_yaxes(rangemode="tozero")
    return made
