"""R[t, u]: the score on every task after every step, with the base above and the experts below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About

ABOUT = About(
    title="Score matrix R",
    line="Rows: the model after each step. Columns: tasks in order of arrival; a frame marks the step whose update "
    "bears the task's name. Read a column downwards: a fall below the frame is forgetting.",
    formula=r"R[t,u]=\text{score on task }u\text{ after step }t",
    source="Sec. 5",
)


def score_heatmap(
    R: pd.DataFrame,
    errors: pd.DataFrame | None = None,
    own: pd.Series | None = None,
    *,
    order: Sequence[str],
    higher_is_better: bool = True,
) -> go.Figure:
    """R (index step, columns tasks) as numbers on colour. errors: standard errors in R's layout.

    order: update names by arrival; a task of no update's name gets no frame. own: score of each task's own expert
    (index task), shown as the last row. NaN cells were not measured.
    """
    if R.empty:
        return theme.nothing(ABOUT.title, "This run was not scored: it was started without probes.")
    table = R.copy()
    names = ["base" if step == 0 else f"step {step}" for step in R.index]
    if own is not None and own.notna().any():
        table = pd.concat([table, own.reindex(R.columns).to_frame("own expert").T])
        names.append("own expert")
    z = table.to_numpy(dtype=float)
    tasks = [theme.as_text(name, limit=18) for name in R.columns]
    columns, rows = list(range(len(tasks))), list(range(len(names)))
    made = theme.figure(ABOUT.title, height=int(110 + np.clip(34 * len(rows), 100, 720)))
    theme.undefined_cells(made, z, columns, rows)
    low, high = (0.0, 1.0) if higher_is_better else (0.0, float(np.nanmax(z)) if np.isfinite(z).any() else 1.0)
    made.add_heatmap(
        z=z,
        x=columns,
        y=rows,
        zmin=low,
        zmax=high,
        colorscale=theme.SEQUENTIAL,
        xgap=1.5,
        ygap=1.5,
        hoverinfo="skip",
        hoverongaps=False,
        reversescale=not higher_is_better,
        colorbar={"thickness": 9, "outlinewidth": 0, "nticks": 5, "tickformat": "~g"},
    )
    share = (z - low) / (high - low or 1.0)
    crowded = len(tasks) > 12
    r, c = np.divmod(np.arange(z.size), len(tasks))
    made.add_scatter(
        x=c,
        y=r,
        mode="markers" if crowded else "text",
        marker={"opacity": 0, "size": 14},
        showlegend=False,
        text=["" if np.isnan(v) else theme.num(v) for v in z.ravel()],
        textfont={"size": 12, "color": list(theme.ink((share if higher_is_better else 1 - share).ravel()))},
        hovertext=[_hover(names[i], tasks[j], z[i, j], errors, i, j) for i, j in zip(r, c, strict=True)],
        hoverinfo="text",
    )
    steps = list(R.index)
    for column, task in enumerate(R.columns):
        step = order.index(task) + 1 if task in order else None
        if step in steps:
            theme.cell_outline(made, column, steps.index(step))
    made.update_layout(hoverdistance=-1, hovermode="closest")
    made.update_xaxes(tickvals=columns, ticktext=tasks, showgrid=False, side="bottom")
    made.update_yaxes(tickvals=rows, ticktext=names, showgrid=False, range=[len(rows) - 0.5, -0.5])
    return made


def _hover(row: str, task: str, value: float, errors: pd.DataFrame | None, i: int, j: int) -> str:
    if np.isnan(value):
        return f"{row} on {task}: not measured"
    se = errors.to_numpy(dtype=float)[i, j] if errors is not None and i < len(errors) else np.nan
    error = "" if np.isnan(se) else f" {theme.margin(se)} (95 %)"
    return f"{row} on {task}: {theme.num(value)}{error}"
