"""Which update costs which task: the change of every task for every update left out."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.number_grid import number_grid
from gcwm_viz.statistics.means import Z95

ABOUT = About(
    title="Effect of every update on every task",
    line="Row: the update left out. Column: the change of a task's score. Above zero (orange): the task is better off "
    "without that update. Faint numbers are not distinguishable from zero (95 %).",
    formula=r"R^{(-k)}[T-1,u]-R[T,u]",
)


def left_out_matrix(change: pd.DataFrame, errors: pd.DataFrame, unit: str = "exact match") -> go.Figure:
    """Diverging heatmap. change, errors: index update left out, columns tasks; more = better without it."""
    z = change.to_numpy(dtype=float)
    if not np.isfinite(z).any():
        return theme.nothing(ABOUT.title, "Not measured yet; run leave-one-out.")
    updates = [theme.as_text(name, limit=18) for name in change.index]
    tasks = [theme.as_text(name, limit=18) for name in change.columns]
    top = float(np.nanmax(np.abs(z))) or 1.0
    spread = Z95 * errors.reindex(index=change.index, columns=change.columns).to_numpy(dtype=float)

    def hover(i: int, j: int) -> str:
        change = f"{theme.num(z[i, j], signed=True)} ± {theme.num(spread[i, j])} {unit}"
        return f"{tasks[j]} without {updates[i]}: {change}"

    figure = number_grid(
        ABOUT.title, z, updates, tasks, hover, x="task", y="left out",
        height=int(130 + np.clip(36 * len(updates), 90, 620)), limits=(-top, top), colorscale=theme.DIVERGING,
        number=lambda value: f"{value:+.2f}",
        ink=[_ink(*cell) for cell in zip(z.ravel() / top, (np.abs(z) > spread).ravel(), strict=True)],
    )  # fmt: skip
    figure.update_xaxes(range=[-0.5, len(tasks) - 0.5])
    return figure


def _ink(share: float, distinguishable: bool) -> str:
    """Text colour on the diverging map: full strength where the change is distinguishable from zero."""
    dark = abs(share) > 0.6
    if distinguishable:
        return "#ffffff" if dark else "#111111"
    return "rgba(255,255,255,0.75)" if dark else "#6d7480"
