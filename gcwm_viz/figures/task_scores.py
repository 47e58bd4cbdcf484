"""Scores of several models, one group a task."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Scores by task",
    line="One group a task, one bar a model, with a 95 % interval over its examples.",
    source="Sec. 5",
)
_HATCHES = ("", "/", "", ".", "x")


def task_scores(
    models: Mapping[str, tuple[pd.Series, pd.Series | None]], *, unit: str, title: str = ABOUT.title, height: int = 420
) -> go.Figure:
    """Grouped bars. models: label → (score by task, its standard error by task or None); one index for all.

    unit: of the score axis. An undefined score has no bar; the title says how many there are.
    """
    scores = [values.astype(float) for values, _ in models.values()]
    if not scores or scores[0].empty or not any(np.isfinite(values).any() for values in scores):
        return theme.nothing(title, "This run was not scored: it was started without probes.")
    missing = sum(int((~np.isfinite(values)).sum()) for values in scores)
    title = title if not missing else f"{title} ({missing} not measured)"
    figure = theme.figure(title, height=height, y=unit, legend=len(models) > 1)
    tasks = [theme.as_text(task, limit=18) for task in scores[0].index]
    for index, (name, (values, errors)) in enumerate(models.items()):
        style = theme.category(index)
        figure.add_bar(
            x=list(range(len(tasks))),
            y=values.to_numpy(dtype=float),
            name=name,
            error_y=theme.error_bar(errors, width=3, thickness=1.6, color=theme.NEUTRAL),
            marker={
                "color": style["color"],
                "pattern": {
                    "shape": _HATCHES[index % len(_HATCHES)],
                    "fillmode": "overlay",
                    "fgcolor": "rgba(255,255,255,0.55)",
                    "solidity": 0.25,
                },
            },
            customdata=tasks,
            hovertemplate="%{customdata}: %{y:.3g}",
        )
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.06)
    figure.update_xaxes(tickvals=list(range(len(tasks))), ticktext=tasks, showgrid=False)
    figure.update_yaxes(rangemode="tozero")
    return figure
