"""Where a task got worse: the attribution of its loss to matrices, over layers and module families."""

from collections.abc import Collection

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.figures import theme
from gcwm_viz.figures.layer_grid import GridAxes, grid_axes, layer_grid
from gcwm_viz.signals.signal import Signal

ATTRIBUTION = Signal(
    column="value",
    title="Attribution",
    line="How much each matrix raised the loss on the straight way between the two states, in nats per token. Orange = "
    "made the task worse, blue = better. The values sum to the change of the loss, up to the residual.",
    formula=r"A_k=\left\langle W_{b,k}-W_{a,k},\int_0^1\nabla_{W_k}L\bigl(W_a+x(W_b-W_a)\bigr)\,dx\right\rangle",
    least=None,
    most=None,
    diverging=True,
    averaged=False,
    page="",
    explained=False,
)
_UNKNOWN = "the attribution of this matrix is not a finite number"


def path_name(start: int, step: int) -> str:
    """A path between two states in words: ``base → step 3``, ``step 2 → 3``."""
    return f"step {start} → {step}" if start else f"base → step {step}"


def cell_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Attribution over layers and families, summed over the tasks of ``rows``, which are of one path and split.

    Columns: layer, family, value (nats, positive = worse), reason: why the value is NaN, which it is where a summand is
    not finite. Tensors outside the target matrices are left out (:func:`outside`).
    """
    cells = rows[rows["layer"] >= 0]
    finite = cells["value"].where(np.isfinite(cells["value"].astype(float)))
    keys = [cells["layer"], cells["family"]]
    sums = finite.groupby(keys, sort=False).sum()
    unknown = finite.isna().groupby(keys, sort=False).any()
    table = sums.mask(unknown).reset_index()
    table["reason"] = np.where(table["value"].isna(), _UNKNOWN, "")
    return table


def outside(rows: pd.DataFrame) -> float:
    """Sum of the attribution of tensors outside the target matrices, in nats; NaN where a summand is."""
    return float(rows.loc[rows["layer"] < 0, "value"].sum(skipna=False))


def attribution_map(
    rows: pd.DataFrame,
    *,
    label: str,
    axes: GridAxes | None = None,
    limits: tuple[float, float] | None = None,
    chosen: tuple[int, str] | None = None,
    outlined: Collection[tuple[int, str]] = (),
) -> go.Figure:
    """Layer grid of one task, or of a sum over several: ``rows`` of the table ``attribution``, one path and split.

    label: task or tasks, escaped here. limits, chosen, outlined, and the last trace, whose points are the cells in the
    order of ``axes.cell``: as in :func:`gcwm_viz.figures.layer_grid.layer_grid`. Marks of undefined cells come before
    that trace, and a box selects them too: only points of the last trace are cells.
    """
    cells = cell_values(rows)
    if cells.empty:
        return theme.nothing(
            f"{ATTRIBUTION.title}: {theme.as_text(label, limit=40)}", "This path has not been attributed yet."
        )
    figure = layer_grid(
        cells, ATTRIBUTION, axes=axes or grid_axes(cells), limits=limits, chosen=chosen, outlined=outlined
    )
    path = path_name(int(rows["start"].iloc[0]), int(rows["step"].iloc[0]))
    balance = _balance(rows)
    figure.update_layout(
        title={
            "text": f"{theme.as_text(label, limit=40)} · {path}",
            "subtitle": {"text": "<br>".join(balance), "font": {"size": 12}},
        },
        height=figure.layout.height + 6 + 16 * len(balance),
        margin_t=54 + 16 * len(balance),
    )
    return figure


def _balance(rows: pd.DataFrame) -> list[str]:
    """Lines: change and residual of all tasks of ``rows`` together; what lies outside the matrices, unless it is 0."""
    tasks = rows.groupby("task", sort=False)[["change", "residual", "converged"]].first()
    many = f" over {len(tasks)} tasks" if len(tasks) > 1 else ""
    # The residuals of several tasks may add up, so their sum bounds that of the sum.
    bound = "≤ " if len(tasks) > 1 else ""
    text = f"loss {theme.num(tasks['change'].sum(skipna=False), signed=True)} nats{many}"
    text += f", residual {bound}{theme.num(tasks['residual'].sum(skipna=False))}"
    unsure = int((~tasks["converged"].astype(bool)).sum())
    if unsure:
        text += " (over the tolerance)" if len(tasks) == 1 else f" ({unsure} over the tolerance)"
    left = outside(rows)
    return [text] if left == 0 else [text, f"outside the matrices {theme.num(left, signed=True)} nats"]
