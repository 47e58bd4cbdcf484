"""Localize-and-Stitch without data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.factories import updates
from tests.merging.steps import close, merge

DELTAS = updates(3, 10, 8, seed=6, dtype=torch.float64)


def naive(deltas: list[NDArray[Any]], weights: Sequence[float], keep: float) -> NDArray[Any]:
    masks = []
    for delta in deltas:
        places = sorted(np.ndindex(delta.shape), key=lambda place: -abs(delta[place]))
        masks.append(set(places[: int(keep * delta.size)]))
    out = np.zeros_like(deltas[0])
    for place in np.ndindex(out.shape):
        owners = [i for i in range(len(deltas)) if place in masks[i]]
        if owners:
            out[place] = sum(weights[i] * deltas[i][place] for i in owners) / sum(weights[i] for i in owners)
    return out


@pytest.mark.parametrize("keep", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("weights", [[1, 1, 1], [0.5, 1, 3]])
def test_against_the_formula_entry_by_entry(keep: float, weights: list[float]) -> None:
    expected = naive([delta.numpy() for delta in DELTAS], weights, keep)
    close(merge("localize-and-stitch", DELTAS, weights=weights, localize_keep=keep), expected)


def test_by_hand() -> None:
    deltas = [torch.tensor([[5.0, 1.0], [4.0, 0.5]]), torch.tensor([[-3.0, 7.0], [0.1, 0.2]])]
    # Half of each: (5, 4) and (−3, 7); the first entry is claimed by both.
    close(merge("localize-and-stitch", deltas, localize_keep=0.5), [[1.0, 7.0], [4.0, 0.0]])


def test_everything_kept_is_the_mean() -> None:
    close(merge("localize-and-stitch", DELTAS, localize_keep=1.0), merge("mean", DELTAS))


def test_a_sparse_update_claims_no_entry_that_it_leaves_alone() -> None:
    sparse = torch.zeros(10, 8, dtype=torch.float64)
    sparse[0, 0] = 1.0
    merged = merge("localize-and-stitch", [DELTAS[0], sparse], localize_keep=1.0)
    close(merged[1:], DELTAS[0][1:])
    close(merged[0, 0], (DELTAS[0][0, 0] + 1) / 2)
