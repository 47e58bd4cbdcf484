"""The step that made an earlier task worst, and the matrices that did half of it."""

import pandas as pd

from gcwm_viz.attribution.worst import worst_step
from gcwm_viz.runs.tables import columns

ORDER = ("a", "b", "c")


def rows(task: str, step: int, values: list[float], start: int | None = None, split: str = "dev") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "start": step - 1 if start is None else start, "step": step, "task": task, "split": split,
            "matrix": [f"m{k}" for k in range(len(values))], "layer": range(len(values)), "family": "q_proj",
            "value": values, "change": sum(values), "nodes": 5, "residual": 0.0, "converged": True,
        }
    )  # fmt: skip


def test_the_largest_rise_of_an_earlier_task() -> None:
    table = pd.concat(
        [
            rows("a", 2, [0.1, 0.2]),
            rows("a", 3, [0.3, -0.5, 0.1, 0.25, 0.2]),
            rows("b", 3, [0.1, 0.3, 0.15]),
            rows("b", 2, [9.0, 9.0]),  # arrives at this step
            rows("c", 2, [9.0, 9.0]),  # is still to come
            rows("a", 3, [99.0], start=0),  # not a single step
            rows("a", 2, [99.0], split="test"),
        ]
    )
    worst = worst_step(table, ORDER)
    assert worst is not None
    assert (worst.task, worst.step, worst.matrices) == ("b", 3, 3)
    assert worst.half == [(1, "q_proj")]  # .3 of .55


def test_half_of_the_harm_counts_what_helped_for_nothing() -> None:
    worst = worst_step(rows("a", 2, [0.2, 0.2, 0.2, 0.2, -0.3]), ORDER)
    assert worst is not None
    assert worst.half == [(0, "q_proj"), (1, "q_proj")]


def test_nothing_to_say() -> None:
    assert worst_step(rows("a", 2, [0.1, -0.2]), ORDER) is None
    assert worst_step(rows("a", 1, [0.5]), ORDER) is None
    assert (
        worst_step(pd.DataFrame({column: pd.Series(dtype="object") for column in columns("attribution")}), ORDER)
        is None
    )
