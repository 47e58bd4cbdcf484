"""Adding updates one by one: predicted conflict above, measured scores below."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Adding updates one by one",
    line="Above: mean conflict between all updates taken so far (higher = more conflict). Below: measured score over "
    "all tasks with a 95 % bar, where such a merge was scored. A path without points below was not measured.",
    formula=r"\operatorname{mean}_{i<j\in S}\gamma_{ij}",
    source="equation (4)",
)


def addition_curve(paths: dict[str, pd.DataFrame], unit: str = "exact match") -> go.Figure:
    """Lines over the number of updates taken, one a path.

    paths: name → columns size, update, subset_conflict, value, se (NaN where nothing was measured).
    """
    drawn = {name: path for name, path in paths.items() if path["subset_conflict"].notna().any()}
    if not drawn:
        return theme.nothing(ABOUT.title, "An order needs two updates with a defined conflict; this run has fewer.")
    scored = any(path["value"].notna().any() for path in drawn.values())
    figure = theme.panels(
        ABOUT.title,
        height=460 if scored else 300,
        rows=2 if scored else 1,
        legend=-0.16 if scored else -0.26,
        shared_xaxes=True,
        vertical_spacing=0.07,
    )
    for index, (name, path) in enumerate(drawn.items()):
        added = [theme.as_text(update, limit=22) for update in path["update"]]
        color = theme.category(index)["color"]
        theme.line(
            figure, index, path["size"], path["subset_conflict"], name, width=2.2, size=8, marker_color=color,
            customdata=added, hovertemplate="%{x} updates, + %{customdata}: conflict %{y:.3g}<extra></extra>",
            row=1, col=1,
        )  # fmt: skip
        if path["value"].notna().any():
            theme.line(
                figure, index, path["size"], path["value"], name, width=2.2, size=8, marker_color=color,
                customdata=added, hovertemplate="%{x} updates, + %{customdata}: %{y:.3g}<extra></extra>",
                error_y=theme.error_bar(path["se"], width=4, thickness=1.4), showlegend=False, row=2, col=1,
            )  # fmt: skip
    figure.update_yaxes(title_text="mean conflict", rangemode="tozero", row=1, col=1)
    if scored:
        figure.update_yaxes(title_text=unit, row=2, col=1)
    longest = max(len(path) for path in drawn.values())
    figure.update_xaxes(dtick=1 if longest <= 20 else 5, range=[0.7, longest + 0.3])
    figure.update_xaxes(title_text="updates taken", row=2 if scored else 1, col=1)
    return figure
