"""Task arithmetic and the mean."""

import numpy as np
import torch

from tests.factories import updates
from tests.merging.steps import close, merge

DELTAS = updates(3, 7, 5, seed=1, dtype=torch.float64)


def test_sum_and_mean_entry_by_entry() -> None:
    stack = DELTAS.numpy()
    total = np.zeros((7, 5))
    for row in range(7):
        for column in range(5):
            total[row, column] = sum(stack[i, row, column] for i in range(3))
    close(merge("task-arithmetic", DELTAS), total)
    close(merge("mean", DELTAS), total / 3)


def test_by_hand_with_weights() -> None:
    first, second = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, -4.0]])
    close(merge("task-arithmetic", [first, second], weights=[3, 1]), [[13.0, 2.0]])
    close(merge("mean", [first, second], weights=[3, 1]), [[3.25, 0.5]])
    close(merge("mean", [first, second], weights=[1, 0]), first)
    close(merge("mean", [second, second]), second)
