import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.errors import InputError
from gcwm_viz.probes.scores import downstream, expert_scores, forgetting_matrix, immediate_drop_matrix, score_matrix
from tests.rounding import rounding

BOUND = 2 * rounding(3)
"""Sums and differences of means of three scores below 1."""
ORDER = ["a", "b", "c"]
R = pd.DataFrame(
    [[0.1, 0.2, 0.3], [0.9, 0.3, 0.2], [0.5, 0.8, 0.4], [0.6, 0.2, 1.0]], index=[0, 1, 2, 3], columns=ORDER
)


def table() -> pd.DataFrame:
    rows: list[Any] = []
    step: Any
    for step, values in R.iterrows():
        for task, value in values.items():
            model, update = ("base", "") if step == 0 else ("step", ORDER[step - 1])
            rows.append((model, step, update, task, "test", "em", value, value / 10, 5))
    for i, name in enumerate(ORDER, start=1):
        rows.append(("expert", i, name, "a", "test", "em", i / 10, 0.0, 5))
    rows.append(("base", 0, "", "a", "dev", "em", 0.77, 0.0, 5))
    columns = ["model", "step", "update", "task", "split", "metric", "value", "se", "n"]
    # Shuffled: the order of rows must not matter.
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0)


def test_score_matrix_and_experts() -> None:
    pd.testing.assert_frame_equal(score_matrix(table(), "test", "em"), R, check_names=False)
    pd.testing.assert_frame_equal(score_matrix(table(), "test", "em", value="se"), R / 10, check_names=False)
    assert score_matrix(table(), "dev", "em").loc[0, "a"] == 0.77
    experts = expert_scores(table(), "test", "em")
    assert list(experts.index) == ORDER
    assert experts["a"].tolist() == [0.1, 0.2, 0.3]


def test_task_without_update_comes_last_and_gaps_are_nan() -> None:
    scores = table()
    extra = scores[(scores["model"] == "base") & (scores["split"] == "test")].head(1).assign(task="other", value=0.5)
    matrix = score_matrix(pd.concat([extra, scores]), "test", "em")
    assert list(matrix.columns) == ["a", "b", "c", "other"]
    assert matrix["other"].isna().tolist() == [False, True, True, True]
    metrics: Any = downstream(matrix, ORDER)
    assert math.isnan(metrics.loc[3, "overall"])


def test_measured_twice_is_refused() -> None:
    with pytest.raises(InputError, match="expected one em of task"):
        score_matrix(pd.concat([table(), table()]), "test", "em")


def test_downstream_by_hand() -> None:
    metrics: Any = downstream(R, ORDER)
    expected = {
        "overall": [0.2, 1.4 / 3, 1.7 / 3, 0.6],
        "old_mean": [np.nan, np.nan, 0.5, (0.6 + 0.2) / 2],
        "current": [np.nan, 0.9, 0.8, 1.0],
        "learned": [np.nan, 0.9, 0.85, 0.9],
        "forgetting": [np.nan, np.nan, 0.9 - 0.5, ((0.9 - 0.6) + (0.8 - 0.2)) / 2],
        "immediate_drop": [np.nan, np.nan, -0.4, (0.1 - 0.6) / 2],
        "bwt": [np.nan, np.nan, -0.4, (-0.3 - 0.6) / 2],
        "fwt": [np.nan, np.nan, 0.3 - 0.2, ((0.3 - 0.2) + (0.4 - 0.3)) / 2],
        "plasticity_gap": [np.nan, np.nan, 0.3, 0.6],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(metrics[name], values, rtol=0, atol=BOUND, err_msg=name)


def test_losses_turn_signs_of_differences_only() -> None:
    turned = downstream(-R, ORDER, higher_is_better=False)
    plain = downstream(R, ORDER)
    for name in ("forgetting", "immediate_drop", "bwt", "fwt", "plasticity_gap"):
        np.testing.assert_allclose(turned[name], plain[name], rtol=0, atol=BOUND, err_msg=name)
    for name in ("overall", "old_mean", "current", "learned"):
        np.testing.assert_allclose(turned[name], -plain[name], rtol=0, atol=BOUND, err_msg=name)


def test_forgetting_and_drop_matrices() -> None:
    np.testing.assert_allclose(forgetting_matrix(R).loc[3], [0.3, 0.6, -0.6], rtol=0, atol=BOUND)
    assert forgetting_matrix(R).loc[0].isna().all()
    np.testing.assert_allclose(immediate_drop_matrix(R).loc[2], [-0.4, 0.5, 0.2], rtol=0, atol=BOUND)


def test_undefined_scores_stay_undefined() -> None:
    holed = R.copy()
    holed.loc[1, "a"] = np.nan
    metrics: Any = downstream(holed, ORDER)
    assert metrics.loc[[2, 3], "forgetting"].isna().all()
    assert metrics.loc[[2, 3], "bwt"].isna().all()
    assert metrics.loc[3, "old_mean"] == pytest.approx(0.4)
    assert metrics.loc[1, "overall"] != metrics.loc[1, "overall"]


def test_an_update_without_probes_has_no_current_score() -> None:
    metrics: Any = downstream(R, ["a", "x", "c"])
    assert math.isnan(metrics.loc[2, "current"])
    assert metrics.loc[3, "old_mean"] == pytest.approx(0.6)


def test_standard_errors() -> None:
    errors = pd.DataFrame(0.03, index=R.index, columns=R.columns)
    metrics: Any = downstream(R, ORDER, errors=errors)
    assert metrics.loc[3, "overall_se"] == pytest.approx(0.03 / math.sqrt(3))
    assert metrics.loc[3, "old_mean_se"] == pytest.approx(0.03 / math.sqrt(2))
    assert metrics.loc[3, "current_se"] == pytest.approx(0.03)
    assert metrics.loc[0, ["old_mean_se", "current_se"]].isna().all()


def test_bad_orders() -> None:
    with pytest.raises(InputError, match="each update once"):
        downstream(R, ["a", "a", "b"])
    with pytest.raises(InputError, match="at least 3 updates"):
        downstream(R, ["a", "b"])
