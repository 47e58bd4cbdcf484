"""How often a merge counts what its updates write: by hand, against dense formulas, and in both forms."""

import math

import pytest
import torch

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.linalg.counts import counts
from gcwm_viz.linalg.lowrank import LowRank
from gcwm_viz.updates.matrices import MatrixKey
from tests.factories import low_rank_updates, orthogonal, updates
from tests.rounding import rounding

BOUND = 4 * rounding(12)


def test_against_the_formula() -> None:
    stack = updates(3, 9, 12, seed=1, dtype=torch.float64)
    merged = stack.sum(0) - 0.3 * stack[1]
    directions = torch.linalg.svd(merged)[0]
    found = counts(directions, merged, list(stack))
    for i, delta in enumerate(stack):
        for r in range(9):
            a, own = directions[:, r] @ merged, directions[:, r] @ delta
            assert float(found.times_mr[i, r]) == pytest.approx(float(a @ own / (own @ own)), abs=1e3 * BOUND)
    share = found.energy_mr / found.energy_mr.sum()
    assert found.overcount == pytest.approx(1 + float((share * (found.times_mr - 1).abs()).sum()), rel=BOUND, abs=0)


def test_the_same_update_three_times_counts_three_times() -> None:
    delta = updates(1, 9, 12, seed=2, dtype=torch.float64)[0]
    found = counts(torch.linalg.svd(delta)[0], 3 * delta, [delta, delta, delta])
    torch.testing.assert_close(found.times_mr, torch.full((3, 9), 3.0, dtype=torch.float64), rtol=1e-9, atol=0)
    assert found.overcount == pytest.approx(3, rel=BOUND, abs=0)


def test_updates_in_other_directions_count_once() -> None:
    left, right = orthogonal(9, 1), orthogonal(12, 2)
    deltas = [left[:, k : k + 3] @ right[:, k : k + 3].mT for k in (0, 3)]
    found = counts(left[:, :6], deltas[0] + deltas[1], deltas)
    once = torch.tensor([[1.0] * 3 + [0.0] * 3, [0.0] * 3 + [1.0] * 3], dtype=torch.float64)
    torch.testing.assert_close(found.times_mr, once, rtol=BOUND, atol=0)  # rounding of an empty direction is empty
    assert found.overcount == pytest.approx(1, abs=BOUND)
    assert math.isnan(counts(left[:, 6:], deltas[0], deltas).overcount)


def test_adapters_give_what_their_matrices_give() -> None:
    thin = low_rank_updates(3, 9, 12, 2, dtype=torch.float64)
    written = [delta.dense() for delta in thin]
    merged = written[0] + written[1] + written[2]
    factored = LowRank(torch.cat([d.left_or for d in thin], dim=1), torch.cat([d.right_ri for d in thin]))
    directions = torch.linalg.svd(merged)[0][:, :6]
    first, second = counts(directions, factored, thin), counts(directions, merged, written)
    torch.testing.assert_close(first.inner_mr, second.inner_mr, rtol=0, atol=BOUND)
    torch.testing.assert_close(first.energy_mr, second.energy_mr, rtol=0, atol=BOUND)


def test_the_signals_of_a_run() -> None:
    """A sum of equal updates counts each as often as there are updates; the mean counts them once; η does not enter."""
    key = MatrixKey("model.layers.0.mlp.up_proj.weight", 0, "up_proj", (14, 10))
    delta = updates(1, *key.shape, seed=3)[0]
    for method, times in (("task-arithmetic", (1, 2, 3)), ("mean", (1, 1, 1))):
        settings = RunSettings.preset_with("scale-free", {"eta": 0.4}, method)
        rows = process_matrix(key, ["a", "b", "c"], [delta] * 3, settings).rows["matrices"]
        for column in ("overcount", "leading_count"):
            assert [row[column] for row in rows] == pytest.approx(times, rel=1e-5)
    rows = process_matrix(key, ["a", "b"], [delta, -delta], RunSettings.preset_with("scale-free", {}, "mean")).rows[
        "matrices"
    ]
    assert math.isnan(rows[1]["overcount"])  # the state is zero
