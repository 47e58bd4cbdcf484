"""Generated tables of the room ``attribution``: seeded, of plausible shapes, computed by nothing under test."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tests.factories_runs import FAMILIES, NASTY, matrix_name

ORDER = ("past", "capital", NASTY)
"""Updates by arrival; the tables have one more task, ``maths``, which no update adds."""
TASKS = (*ORDER, "maths")


def make_attribution(
    *, layers: int = 4, steps: int = 3, tasks: Sequence[str] = TASKS, outside: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """The table ``attribution``: every single step and base → final, the development split.

    outside: value of the one tensor outside the target matrices, on every path; no row of it where 0.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for start, step in [*((t - 1, t) for t in range(1, steps + 1)), (0, steps)]:
        for place, task in enumerate(tasks):
            lift = -0.05 if place + 1 == step else 0.004
            cells = [(layer, family, lift + rng.normal(0, 0.01)) for layer in range(layers) for family in FAMILIES]
            values = [*cells, (-1, "outside", outside)] if outside else cells
            change = sum(value for _, _, value in values) + 1e-4
            for layer, family, value in values:
                name = "model.embed_tokens.weight" if layer < 0 else matrix_name(layer, family)
                rows.append((start, step, task, "dev", name, layer, family, value, change, 8, 1e-4, True))
    names = ["start", "step", "task", "split", "matrix", "layer", "family", "value", "change", "nodes", "residual"]
    return pd.DataFrame(rows, columns=[*names, "converged"]).drop_duplicates(["start", "step", "task", "matrix"])


def one_path(table: pd.DataFrame, step: int, *tasks: str) -> pd.DataFrame:
    """Rows of a single step, of all tasks or of those named."""
    rows = table[(table["start"] == step - 1) & (table["step"] == step)]
    return rows[rows["task"].isin(tasks)] if tasks else rows


def make_interpolation(step: int = 2, metric: str = "em", tasks: Sequence[str] = TASKS) -> pd.DataFrame:
    """The table ``interpolation`` of base → ``step`` and of the step: every task moves straight from .4 to .6."""
    rows = [
        (start, step, lam, task, "dev", metric, 0.4 + 0.2 * lam, 0.03, 200)
        for start in sorted({0, step - 1})
        for lam in np.linspace(0, 1.5, 7)
        for task in tasks
    ]
    return pd.DataFrame(rows, columns=["start", "step", "lam", "task", "split", "metric", "value", "se", "n"])


def make_restoration() -> pd.DataFrame:
    """The table ``restoration`` of step 2, out of order: half of ``past`` comes back, the later task has no share."""
    rows = []
    for task, role, recovered, reason in (
        (NASTY, "later", np.nan, "its loss changes by 0.0001 nats, too little for a share"),
        ("capital", "arrived", 0.1, ""),
        ("past", "earlier", 0.5, ""),
    ):
        for metric, before, after, restored in (("em", 0.9, 0.7, 0.8), ("nll", 0.2, 0.6, 0.4)):
            scores = (before, after, restored, 0.02, 0.03, 0.04)
            rows.append((task, "dev", metric, *scores, recovered, reason, role))
    columns = ["task", "split", "metric", "before", "after", "restored", "before_se", "after_se", "restored_se"]
    return pd.DataFrame(rows, columns=[*columns, "recovered", "reason", "role"])
