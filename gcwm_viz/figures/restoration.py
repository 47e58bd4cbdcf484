"""What came back when chosen matrices were put back to the state before the step."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.task_scores import task_scores

ABOUT = About(
    title="Undoing the chosen cells",
    line="Scores of every task before the step, after it, and after it with the chosen matrices put back, with 95 % "
    "bars. Under a task: the share of the change of its loss that this undoes. At an earlier task that is "
    "what came back, at the arriving task what is given up.",
    formula=r"\frac{L_u(W_b)-L_u(W_b\text{ with cells restored})}{L_u(W_b)-L_u(W_a)}",
)
_COLUMNS = {"before": "before the step", "after": "after the step", "restored": "cells undone"}
_ROLES = ("earlier", "arrived", "later")
_MARKS = {"arrived": "arrives", "later": "later"}


def restoration(table: pd.DataFrame, *, metric: str, unit: str) -> go.Figure:
    """Bars of one split of :func:`gcwm_viz.attribution.restore.compare`, all metrics: the shares are those of ``nll``.

    Tasks by role: earlier ones, the arriving one, later ones. unit: of ``metric``.
    """
    rows = table[table["metric"] == metric]
    if rows.empty:
        return theme.nothing(ABOUT.title, "Nothing has been undone yet: choose cells and undo them.")
    rows = rows.sort_values("role", key=lambda roles: roles.map(_place), kind="stable").set_index("task")
    figure = task_scores(
        {name: (rows[column], rows.get(f"{column}_se")) for column, name in _COLUMNS.items()}, unit=unit,
        title=ABOUT.title, height=430,
    )  # fmt: skip
    if not figure.data:
        return theme.nothing(ABOUT.title, "None of these scores is a finite number.")
    shares = [_share(table[table["task"] == task]) for task in rows.index]
    labels = [
        f"{theme.as_text(task, limit=18)}{f' ({_MARKS[role]})' if role in _MARKS else ''}<br>{_short(*share)}"
        for task, role, share in zip(rows.index, rows["role"], shares, strict=True)
    ]
    figure.update_xaxes(ticktext=labels)
    figure.update_layout(legend_y=-0.22)
    for bar, column in zip(figure.data, _COLUMNS, strict=True):
        bar.customdata = [
            f"{theme.as_text(task, limit=40)}, {_COLUMNS[column]}: {theme.num(value)}<br>{_long(*share)}"
            for task, value, share in zip(rows.index, rows[column], shares, strict=True)
        ]
        bar.hovertemplate = "%{customdata}<extra></extra>"
    return figure


def _place(role: str) -> int:
    return _ROLES.index(role) if role in _ROLES else len(_ROLES)


def _share(own: pd.DataFrame) -> tuple[float, str]:
    """Share of the change of one task's loss that is undone, and why it is NaN."""
    loss = own[own["metric"] == "nll"]
    if loss.empty:
        return np.nan, "this task has no loss"
    share, reason = loss[["recovered", "reason"]].iloc[0]
    return float(share), "" if np.isfinite(share) else str(reason)


def _short(share: float, reason: str) -> str:
    return "n/a" if np.isnan(share) else f"{share:.0%} undone".replace("%", " %")


def _long(share: float, reason: str) -> str:
    if np.isnan(share):
        return f"share undone: {theme.as_text(theme.reason_or_default(reason), limit=120)}"
    return f"{theme.percent(share)} of the change of its loss is undone"
