"""Differences between two runs, by hand."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from gcwm_viz.studies.two_runs import matrix_differences, mean_difference, score_differences


def cells(names: Sequence[str], values: Sequence[float], reasons: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "step": 2,
            "matrix": names,
            "layer": range(len(names)),
            "family": "q_proj",
            "sar": values,
            "reason": reasons or [""] * len(names),
        }
    )


def run(R: pd.DataFrame, errors: pd.DataFrame) -> Any:
    return SimpleNamespace(R=R, errors=errors)


def scores(
    values: list[list[float]] | NDArray[Any],
    steps: tuple[Any, ...] = (0, 1, 2),
    tasks: str | tuple[str, str] = ("a", "b"),
) -> pd.DataFrame:
    return pd.DataFrame(values, index=list(steps), columns=list(tasks), dtype=float)


def test_only_matrices_in_both_are_compared_and_reasons_name_the_run() -> None:
    first = cells(["x", "y", "z"], [0.5, np.nan, 0.1], ["", "no pair", ""])
    second = cells(["y", "x", "w"], [0.2, 0.1, 0.3], ["", "odd", ""])
    out = matrix_differences(first, second, ["sar"])
    assert list(out["matrix"]) == ["x", "y"]
    assert out["sar"].tolist() == pytest.approx([0.4, np.nan], nan_ok=True)
    assert out["reason"].tolist() == ["second run: odd", "first run: no pair"]
    assert matrix_differences(first, cells(["w"], [1.0]), ["sar"]).empty


def test_score_differences_pair_tasks_and_add_errors_in_square() -> None:
    first = run(scores([[0, 0], [1, 0], [0.8, 0.9]]), scores(np.full((3, 2), 0.03)))
    second = run(scores([[0, 0], [1, 0], [0.5, 1.0]], tasks="ba"), scores(np.full((3, 2), 0.04), tasks="ba"))
    out = score_differences(first, second, 2)
    assert out["difference"].tolist() == pytest.approx([-0.2, 0.4])
    assert out["se"].tolist() == pytest.approx([0.05, 0.05])
    mean = mean_difference(out)
    assert mean.value == pytest.approx(0.1)
    assert mean.tasks == 2
    assert mean.se_examples == pytest.approx(0.05 / 2**0.5)
    assert mean.se_tasks == pytest.approx(0.3)


def test_the_same_examples_give_a_paired_error() -> None:
    first = run(scores([[0.5, 0.5]], steps=(2,)), scores([[0.2, 0.2]], steps=(2,)))
    first.metric = "nll"
    second = run(scores([[0.4, 0.4]], steps=(2,)), scores([[0.2, 0.2]], steps=(2,)))
    values = np.array([0.1, 0.2, 0.0, 0.1])
    out = score_differences(first, second, 2, {"a": values})
    assert out["paired"].tolist() == [True, False]
    assert out.loc["a", "se"] == pytest.approx(values.std(ddof=1) / 2)
    assert out.loc["b", "se"] == pytest.approx(0.2 * 2**0.5)


def test_what_is_not_measured_stays_undefined() -> None:
    full = run(scores([[0, 0], [1, 0], [0.8, 0.9]]), scores(np.zeros((3, 2))))
    short = run(scores([[0, 0], [1, np.nan]], steps=(0, 1)), scores(np.zeros((2, 2)), steps=(0, 1)))
    assert score_differences(full, short, 2)["difference"].isna().all()
    assert np.isnan(mean_difference(score_differences(full, short, 2)).value)
    one = mean_difference(score_differences(full, short, 1))
    assert one.tasks == 1
    assert np.isnan(one.se_tasks)
