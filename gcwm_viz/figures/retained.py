"""Mean score on earlier tasks over the steps, of one or more methods."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Score on earlier tasks",
    line="Mean score on the tasks that came before each step, with 95 % intervals over their examples; higher = less "
    "forgotten.",
    source="Sec. 5",
)


def retained(
    courses: Mapping[str, pd.Series], errors: Mapping[str, pd.Series], *, unit: str, height: int = 420
) -> go.Figure:
    """Lines over steps. courses: name → mean score on earlier tasks by step (NaN where there is none); errors: their
    standard errors, of those that have any."""
    drawn = {name: values.astype(float).dropna() for name, values in courses.items()}
    if not any(len(values) for values in drawn.values()):
        return theme.nothing(ABOUT.title, "No step has an earlier task that was scored.")
    figure = theme.figure(ABOUT.title, height=height, x="step", y=unit, legend=True)
    for index, (name, values) in enumerate(drawn.items()):
        bar = theme.error_bar(errors[name][values.index], width=6, thickness=2) if name in errors else None
        theme.line(
            figure, index, values.index, values, theme.as_text(name), width=4, size=13,
            dash=theme.category(index)["dash"], hovertemplate="step %{x}: %{y:.3g}", error_y=bar,
        )  # fmt: skip
    figure.update_xaxes(dtick=1)
    figure.update_yaxes(rangemode="tozero")
    return figure
