"""Which update costs which task: the change of every task for every update left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.statistics.means import Z95

ABOUT = About(
    title="Who costs whom",
    line="Row: the update left out. Column: the change of a task's score. Above zero (orange): the task is better off "
    "without that update. Faint numbers are not distinguishable from zero (95 %).",
    formula=r"R^{(-k)}[T-1,u]-R[T,u]",
)


def left_out_matrix(change: pd.DataFrame, errors: pd.DataFrame, unit: str = "exact match") -> go.Figure:
    """Diverging heatmap. change, errors: index update left out, columns tasks; more = better without."""
    z = change.to_numpy(dtype=float)
    if not np.isfinite(z).any():
        return theme.nothing(ABOUT.title, "Not measured yet; run leave-one-out.")
    rows, columns = list(range(len(change.index))), list(range(len(change.columns)))
    updates = [theme.as_text(name, limit=18) for name in change.index]
    tasks = [theme.as_text(name, limit=18) for name in change.columns]
    top = float(np.nanmax(np.abs(z))) or 1.0
    made = theme.figure(ABOUT.title, height=int(130 + np.clip(36 * len(rows), 90, 620)), x="task", y="left out")
    theme.undefined_cells(made, z, columns, rows)
    made.add_heatmap(
        z=z,
        x=columns,
        y=rows,
        zmin=-top,
        zmax=top,
        colorscale=theme.DIVERGING,
        xgap=1.5,
        ygap=1.5,
        hoverinfo="skip",
        hoverongaps=False,
        colorbar={"thickness": 9, "outlinewidth": 0, "nticks": 5, "tickformat": "~g"},
    )
    spread = Z95 * errors.reindex(index=change.index, columns=change.columns).to_numpy(dtype=float)
    r, c = np.divmod(np.arange(z.size), len(tasks))
    told = np.abs(z) > spread
    made.add_scatter(
        x=c,
        y=r,
        mode="markers" if len(tasks) > 12 else "text",
        marker={"opacity": 0, "size": 14},
        showlegend=False,
        text=["" if np.isnan(value) else f"{value:+.2f}" for value in z.ravel()],
        textfont={"size": 12, "color": [_ink(*cell) for cell in zip(z.ravel() / top, told.ravel(), strict=True)]},
        hovertext=[
            f"{tasks[j]} without {updates[i]}: {theme.num(z[i, j], signed=True)} ± {theme.num(spread[i, j])} {unit}"
            for i, j in zip(r, c, strict=True)
        ],
        hoverinfo="text",
    )
    made.update_layout(hoverdistance=-1, hovermode="closest")
    made.update_xaxes(tickvals=columns, ticktext=tasks, showgrid=False, range=[-0.5, len(tasks) - 0.5])
    made.update_yaxes(tickvals=rows, ticktext=updates, showgrid=False, range=[len(rows) - 0.5, -0.5])
    return made


def _ink(share: float, told: bool) -> str:
    """Text colour on the diverging map: full strength where the change can be told from zero."""
    dark = abs(share) > 0.6
    if told:
        return "#ffffff" if dark else "#111111"
    return "rgba(255,255,255,0.75)" if dark else "#6d7480"
