"""OPCM: projection and scaling."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gcwm_viz.merging.methods.opcm import project_away
from tests.factories import low_rank_updates, updates
from tests.merging.steps import close, merge
from tests.rounding import rounding

DELTAS = updates(4, 9, 7, seed=8, overlap=0.8, dtype=torch.float64)


def naive_projection(delta: NDArray[Any], state: NDArray[Any], energy: float) -> NDArray[Any]:
    """With the full square U and V."""
    u, sigma, vt = np.linalg.svd(state, full_matrices=True)
    projected = u.T @ delta @ vt.T
    share, r = 0.0, 0
    while share <= energy:
        share += sigma[r] / sigma.sum()
        r += 1
    for i in range(min(projected.shape)):
        projected[i, i] = 0
    for i in range(r):
        for j in range(r):
            projected[i, j] = 0
    return np.asarray(u @ projected @ vt)


def naive_opcm(deltas: list[NDArray[Any]], energy: float) -> NDArray[Any]:
    state, lam = deltas[0], 1.0
    norms = [np.linalg.norm(deltas[0])]
    for delta in deltas[1:]:
        norms.append(np.linalg.norm(delta))
        total = lam * state + naive_projection(delta, state, energy)
        lam = np.linalg.norm(total) / np.mean(norms)
        state = total / lam
    return state


@pytest.mark.parametrize("energy", [0.0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(9, 7), (7, 9), (8, 8)])
def test_against_the_formula_with_the_full_decomposition(energy: float, shape: tuple[int, int]) -> None:
    deltas = updates(4, *shape, seed=8, overlap=0.8, dtype=torch.float64)
    expected = naive_opcm([delta.numpy() for delta in deltas], energy)
    close(merge("opcm", deltas, opcm_energy=energy), expected, 1e-9)


def test_by_hand() -> None:
    first = torch.diag(torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64))  # 3/4.5 > 1/2: r = 1
    second = torch.arange(1.0, 10.0, dtype=torch.float64).reshape(3, 3)
    expected = torch.tensor([[0.0, 2, 3], [4, 0, 6], [7, 8, 0]], dtype=torch.float64)
    close(project_away(second, first, 0.5), expected)
    expected[:2, :2] = 0  # (3 + 1)/4.5 > 0.8
    close(project_away(second, first, 0.8), expected)


def test_the_state_has_the_mean_norm_of_the_updates_so_far() -> None:
    scaled = [DELTAS[0], 2 * DELTAS[1], 6 * DELTAS[2]]
    for count, mean in ((1, 1.0), (2, 1.5), (3, 3.0)):
        assert float(merge("opcm", scaled[:count]).norm()) == pytest.approx(mean, rel=1e-9)


def test_what_is_added_is_orthogonal_to_the_state() -> None:
    added = project_away(DELTAS[1], DELTAS[0], 0.5)
    assert abs(float((added * DELTAS[0]).sum())) < rounding(DELTAS[0].numel())  # the norms of both are below 1


def test_an_update_inside_the_leading_block_adds_nothing() -> None:
    twin = merge("opcm", [DELTAS[0], DELTAS[0]])
    close(twin, DELTAS[0], 1e-9)


def test_a_rank_deficient_state_gives_the_same_in_any_basis() -> None:
    # The null space of the state has no preferred basis: rotating everything must rotate the result.
    deltas = [delta.dense() for delta in low_rank_updates(3, 9, 7, 2, dtype=torch.float64)]
    left, right = (
        torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64))[0]
        for n in (9, 7)
    )
    close(merge("opcm", [left @ delta @ right for delta in deltas]), left @ merge("opcm", deltas) @ right, 1e-9)
