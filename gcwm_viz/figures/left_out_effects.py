"""Effect of leaving one update out on every task."""

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Effect of leaving the update out",
    line="Score of each task without the update minus its score with all updates; bars span 95 % (same examples, "
    "paired). Right of zero: the task is better off without it. The diamond is the update's own task.",
    formula=r"\Delta R_u=R^{(-k)}[T-1,u]-R[T,u]",
)


def left_out_effects(effects: pd.DataFrame, unit: str = "exact match") -> go.Figure:
    """Dots with error bars. effects: columns task, own (bool), change (more = better without), se, n."""
    measured = effects[effects["change"].notna()]
    if measured.empty:
        return theme.nothing(ABOUT.title, "Not measured yet; run leave-one-out.")
    figure = theme.figure(
        ABOUT.title, height=int(120 + 34 * min(len(measured), 24)), x=f"change of {unit} when left out", legend=True
    )
    for own, name, color in ((False, "other tasks", theme.OKABE_ITO[0]), (True, "its own task", theme.OKABE_ITO[5])):
        rows = measured[measured["own"].astype(bool) == own]
        if rows.empty:
            continue
        figure.add_scatter(
            x=rows["change"],
            y=[theme.as_text(task, limit=22) for task in rows["task"]],
            mode="markers",
            name=name,
            marker={"size": 10, "color": color, "symbol": "diamond" if own else "circle"},
            error_x=theme.error_bar(rows["se"], width=4, thickness=1.6, color=color),
            customdata=[
                f"{theme.num(change, signed=True)} {theme.margin(se)}, {n} examples"
                for change, se, n in zip(rows["change"], rows["se"], rows["n"], strict=True)
            ],
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    figure.update_yaxes(
        autorange="reversed",
        type="category",
        categoryorder="array",
        categoryarray=[theme.as_text(task, limit=22) for task in measured["task"]],
    )
    figure.update_xaxes(zeroline=True, zerolinecolor=theme.NEUTRAL, zerolinewidth=1.5)
    return figure
