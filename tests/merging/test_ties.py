"""TIES and the choice of the largest entries."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gcwm_viz.merging.magnitude import top_magnitudes
from tests.factories import updates
from tests.merging.steps import close, merge

DELTAS = updates(4, 9, 6, seed=2, dtype=torch.float64)


def naive_trim(delta: NDArray[Any], keep: float) -> NDArray[Any]:
    flat = sorted(((abs(value), place) for place, value in np.ndenumerate(delta)), key=lambda pair: -pair[0])
    out = np.zeros_like(delta)
    for value, place in flat[: int(keep * delta.size)]:
        if value:
            out[place] = delta[place]
    return out


def naive_ties(deltas: list[NDArray[Any]], weights: Sequence[float], keep: float) -> NDArray[Any]:
    trimmed = [naive_trim(delta, keep) for delta in deltas]
    out = np.zeros_like(deltas[0])
    for place in np.ndindex(out.shape):
        entries = [(weight, delta[place]) for weight, delta in zip(weights, trimmed, strict=True)]
        positive = sum(weight * value for weight, value in entries if value > 0)
        negative = -sum(weight * value for weight, value in entries if value < 0)
        sign = np.sign(positive - negative)
        agreeing = [(weight, value) for weight, value in entries if value * sign > 0]
        if agreeing:
            out[place] = sum(w * v for w, v in agreeing) / sum(w for w, _ in agreeing)
    return out


@pytest.mark.parametrize("keep", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [2, 1, 0.5, 1]])
def test_against_the_formula_entry_by_entry(keep: float, weights: list[float]) -> None:
    expected = naive_ties([delta.numpy() for delta in DELTAS], weights, keep)
    close(merge("ties", DELTAS, weights=weights, ties_keep=keep), expected)


def test_by_hand() -> None:
    deltas = [
        torch.tensor([[4.0, 0.1, -3.0, 0.2]]),
        torch.tensor([[2.0, 0.1, 5.0, -0.3]]),
        torch.tensor([[-3.0, 0.2, 1.0, 6.0]]),
    ]
    # Half of each is kept: (4, ·, −3, ·), (2, ·, 5, ·), (−3, ·, ·, 6). Mass 3, 0, 2, 6: all signs positive.
    close(merge("ties", deltas, ties_keep=0.5), [[3.0, 0.0, 5.0, 6.0]])
    # ω = 9 for the third turns the first entry: mass 4 + 2 − 27 < 0.
    close(merge("ties", deltas, ties_keep=0.5, weights=[1, 1, 9]), [[-3.0, 0.0, 5.0, 6.0]])


def test_equal_masses_elect_no_sign() -> None:
    deltas = [torch.tensor([[2.0, 1.0]]), torch.tensor([[-2.0, 1.0]])]
    close(merge("ties", deltas, ties_keep=1.0), [[0.0, 1.0]])


def test_turning_every_sign_turns_the_result() -> None:
    close(merge("ties", -DELTAS), -merge("ties", DELTAS))


def test_identical_updates_give_the_trimmed_update() -> None:
    same = torch.stack([DELTAS[0]] * 3)
    close(merge("ties", same, ties_keep=0.3), naive_trim(DELTAS[0].numpy(), 0.3))


def test_the_count_of_entries_is_exact() -> None:
    x = torch.tensor([[1.0, -1.0, 1.0], [0.5, -1.0, 2.0]])
    assert top_magnitudes(x, 0.5).tolist() == [[True, True, False], [False, False, True]]
    assert top_magnitudes(x, 1.0).all()
    assert int(top_magnitudes(x, 0.01).sum()) == 1
    assert int(top_magnitudes(torch.ones(10, 10), 0.05).sum()) == 5
    sparse = torch.zeros(10, 10)
    sparse[3, 4] = -1e-20
    assert top_magnitudes(sparse, 0.5).nonzero().tolist() == [[3, 4]]
    assert not bool(top_magnitudes(torch.zeros(3, 3), 0.5).any())
    for share in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
            top_magnitudes(x, share)
