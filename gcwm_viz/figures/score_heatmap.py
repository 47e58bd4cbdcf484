"""R[t, u]: the score on every task after every step, with the base above and the experts below."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.about import About
from gcwm_viz.figures.number_grid import number_grid

ABOUT = About(
    title="Score matrix R",
    line="Rows: the model after each step. Columns: tasks in order of arrival; a frame marks the step whose update "
    "has the task's name. Read a column downwards: a fall below the frame is forgetting.",
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
    """Heatmap of R (index step, columns tasks) with its numbers. errors: standard errors in R's layout.

    order: update names by arrival; a task without an update of its name has no frame. own: score of each task's own
    expert (index task), shown as the last row. NaN cells were not measured.
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
    top = 1.0 if higher_is_better or not np.isfinite(z).any() else float(np.nanmax(z))
    steps = list(R.index)
    arrival = {task: order.index(task) + 1 for task in R.columns if task in order}
    figure = number_grid(
        ABOUT.title, z, names, tasks, lambda i, j: _hover(names[i], tasks[j], z[i, j], errors, i, j),
        height=int(110 + np.clip(34 * len(names), 100, 720)), limits=(0.0, top), reversescale=not higher_is_better,
        framed=[(steps.index(arrival[task]), j) for j, task in enumerate(R.columns) if arrival.get(task) in steps],
    )  # fmt: skip
    figure.update_xaxes(side="bottom")
    return figure


def _hover(row: str, task: str, value: float, errors: pd.DataFrame | None, i: int, j: int) -> str:
    if np.isnan(value):
        return f"{row} on {task}: not measured"
    se = errors.to_numpy(dtype=float)[i, j] if errors is not None and i < len(errors) else np.nan
    error = "" if np.isnan(se) else f" {theme.margin(se)} (95 %)"
    return f"{row} on {task}: {theme.num(value)}{error}"
