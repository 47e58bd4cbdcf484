"""Gradient conflict: whether tasks' loss gradients of a matrix oppose each other at a checkpoint. Needs data.

A negative cosine of two tasks' loss gradients means that a step downhill for one goes uphill for the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from gcwm_viz.errors import InputError

NAN = float("nan")


def task_gradients(
    model: torch.nn.Module, losses: Mapping[str, Callable[[], Tensor]], names: Sequence[str]
) -> dict[str, list[Tensor]]:
    """∂loss/∂W of every named parameter for every task, one forward and backward pass per task.

    `losses`: a scalar loss of the model by task. Gradients already stored in the parameters are not changed.
    """
    parameters = dict(model.named_parameters())
    missing = [name for name in names if name not in parameters]
    if missing:
        raise InputError(f"model: expected a parameter {missing[0]!r}, found none of that name")
    chosen = [parameters[name] for name in names]
    required = [parameter.requires_grad for parameter in chosen]
    for parameter in chosen:
        parameter.requires_grad_(True)
    try:
        return {task: list(torch.autograd.grad(loss(), chosen)) for task, loss in losses.items()}
    finally:
        for parameter, before in zip(chosen, required, strict=True):
            parameter.requires_grad_(before)


def gradient_cosines(gradients: Mapping[str, Sequence[Tensor]], names: Sequence[str]) -> pd.DataFrame:
    """Rows (matrix, i, j, cosine, reason) of every pair of tasks; cosine in [-1, 1], lower = more conflict.

    NaN with a reason where a task's gradient of the matrix is zero.
    """
    tasks = list(gradients)
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        flat = torch.stack([gradients[task][index].flatten().double() for task in tasks])
        norms = flat.norm(dim=1)
        table = (flat @ flat.T) / (norms[:, None] * norms[None, :])
        for i in range(len(tasks)):
            for j in range(i + 1, len(tasks)):
                zero = next((tasks[k] for k in (i, j) if norms[k] == 0), None)
                rows.append(
                    {
                        "matrix": name,
                        "i": tasks[i],
                        "j": tasks[j],
                        "cosine": NAN if zero else max(-1.0, min(1.0, float(table[i, j]))),
                        "reason": f"the gradient of {zero} is zero" if zero else "",
                    }
                )
    return pd.DataFrame(rows, columns=["matrix", "i", "j", "cosine", "reason"])


def gradient_conflict(cosines: pd.DataFrame) -> pd.DataFrame:
    """Per matrix: gradient_mean and gradient_min in [-1, 1] (lower = more conflict), gradient_negative in [0, 1], the
    share of pairs with a negative cosine (higher = more conflict). NaN where no pair is defined."""
    rows = []
    for name, part in cosines.groupby("matrix", sort=False):
        values = part["cosine"].dropna()
        rows.append(
            {
                "matrix": name,
                "gradient_mean": float(values.mean()),
                "gradient_min": float(values.min()),
                "gradient_negative": float((values < 0).mean()),
            }
        )
    return pd.DataFrame(rows, columns=["matrix", "gradient_mean", "gradient_min", "gradient_negative"])


def family_comparison(
    cells: pd.DataFrame, k: int, conflict: str = "conflict", gradient: str = "gradient_mean"
) -> pd.DataFrame:
    """Do the k (step, matrix) cells of highest geometry conflict lie in the families where gradients conflict most?

    Columns: family; conflict: its share of the k cells of highest `conflict`; gradient: of the k cells of lowest
    `gradient` cosine; expected: of all cells where both are defined, the only ones that count. Each sums to 1. Rows by
    falling conflict share. Raises InputError for k < 1.
    """
    if k < 1:
        raise InputError(f"number of top cells: expected at least 1, found {k}")
    defined = cells.dropna(subset=[conflict, gradient])

    def share(part: pd.DataFrame) -> pd.Series:
        return part["family"].value_counts(normalize=True)

    highest = defined.sort_values(conflict, ascending=False, kind="stable").head(k)
    lowest = defined.sort_values(gradient, kind="stable").head(k)
    table = pd.DataFrame({"conflict": share(highest), "gradient": share(lowest), "expected": share(defined)})
    table = table.fillna(0.0).rename_axis("family").reset_index()
    return table.sort_values(["conflict", "family"], ascending=[False, True], ignore_index=True)
