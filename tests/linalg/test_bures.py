"""Bures–Wasserstein distance against closed forms, POT, SciPy and its invariances."""

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from gcwm_viz.linalg.bures import Planes, bures_squared, bures_squared_floored, low_rank_bures_squared
from tests import oracles
from tests.factories import covariances, generator, orthogonal
from tests.rounding import rounding


def frames_distance(v_a: Tensor, e_a: Tensor, v_b: Tensor, e_b: Tensor, lam: Tensor) -> Tensor:
    """From frames of any two ranks: padded to one width."""
    r = max(len(e_a), len(e_b))
    cross = torch.zeros(r, r, dtype=torch.float64)
    cross[: len(e_a), : len(e_b)] = v_a.mT @ v_b
    padded = [torch.nn.functional.pad(e, (0, r - len(e))) for e in (e_a, e_b)]
    return low_rank_bures_squared(Planes.of(cross), padded[0], padded[1], lam)


def test_commuting_covariances_have_the_distance_of_their_roots() -> None:
    q = orthogonal(9, 0)
    a, b = torch.rand(2, 9, generator=generator(1), dtype=torch.float64)
    distance = bures_squared((q * a) @ q.mT, (q * b) @ q.mT)
    expected = (a.sqrt() - b.sqrt()).square().sum()
    assert float(distance) == pytest.approx(float(expected), abs=rounding(9) * float((a + b).sum()))


def test_one_dimension() -> None:
    a, b = torch.tensor([[[4.0]], [[9.0]]], dtype=torch.float64)
    assert float(bures_squared(a, b)) == pytest.approx(1.0, abs=rounding(1) * 13)


@pytest.mark.parametrize("smallest", [1e-1, 1e-4])
def test_agrees_with_pot_and_scipy(smallest: float) -> None:
    a, b = covariances(2, 10, smallest=smallest, seed=3)
    zero = np.zeros(10)
    distance = float(bures_squared(a, b))
    # The oracles take the root of a product and so keep about half the digits of the smallest eigenvalues.
    tolerance = 1e-7 * float(a.trace() + b.trace())
    assert distance == pytest.approx(oracles.bures_squared(a.numpy(), b.numpy()), abs=tolerance)
    pot = float(ot.gaussian.bures_wasserstein_distance(zero, zero, a.numpy(), b.numpy())) ** 2
    assert distance == pytest.approx(pot, abs=tolerance)


def test_is_a_squared_distance() -> None:
    a, b, c = covariances(3, 8, seed=5)
    bound = rounding(8) * float(a.trace() + b.trace())
    assert float(bures_squared(a, a)) <= bound
    assert float(bures_squared(a, b)) == pytest.approx(float(bures_squared(b, a)), abs=bound)
    ab, bc, ac = (float(bures_squared(x, y)) ** 0.5 for x, y in ((a, b), (b, c), (a, c)))
    assert ac <= ab + bc


def test_turns_with_the_space_and_scales_with_the_covariances() -> None:
    a, b = covariances(2, 8, seed=6)
    q = orthogonal(8, 7)
    distance = float(bures_squared(a, b))
    # The products turn and scale eigenvalues down to 1e-3 to rounding of the largest; roots of those follow by 1/√.
    bound = rounding(8, condition=1e3**0.5)
    assert float(bures_squared(q @ a @ q.mT, q @ b @ q.mT)) == pytest.approx(distance, rel=bound, abs=0)
    assert float(bures_squared(1e-9 * a, 1e-9 * b)) == pytest.approx(1e-9 * distance, rel=bound, abs=0)


def test_singular_covariances_are_fine() -> None:
    a = torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    b = torch.diag(torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64))
    assert float(bures_squared(a, b)) == pytest.approx(3.0, abs=rounding(3) * 3)


@pytest.mark.parametrize("lam", [0.0, 1e-12, 1e-6, 0.5])
@pytest.mark.parametrize("ranks", [(1, 1), (3, 5), (4, 4)])
def test_low_rank_form_equals_the_dense_one(lam: float, ranks: tuple[int, int]) -> None:
    dim, rng = 12, generator(sum(ranks))
    v = [torch.linalg.qr(torch.randn(dim, r, generator=rng, dtype=torch.float64))[0] for r in ranks]
    e = [torch.rand(r, generator=rng, dtype=torch.float64) for r in ranks]
    identity = torch.eye(dim, dtype=torch.float64)
    a, b = ((x * y) @ x.mT + lam * identity for x, y in zip(v, e, strict=True))
    low = frames_distance(v[0], e[0], v[1], e[1], torch.tensor(lam, dtype=torch.float64))
    # The dense form takes roots of eigenvalues that are zero to rounding.
    bound = rounding(dim) ** 0.5 * float(a.trace() + b.trace())
    assert float(low) == pytest.approx(float(bures_squared(a, b)), abs=bound)


def test_low_rank_form_takes_padding_shared_directions_and_a_full_space() -> None:
    q = orthogonal(4, 2)
    e = torch.tensor([3.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    lam = torch.tensor(1e-6, dtype=torch.float64)
    assert float(frames_distance(q, e, q, e, lam)) <= rounding(8) * 2 * float(e.sum())  # twice four directions
    padded = torch.zeros(4, 4, dtype=torch.float64)
    padded[:, :2] = q[:, :2]
    energies = torch.tensor([3.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    bare = frames_distance(q[:, :2], e[:2], q[:, 1:3], e[1:3], lam)
    with_padding = frames_distance(padded, energies, q[:, 1:3], e[1:3], lam)
    assert float(with_padding) == pytest.approx(float(bare), abs=rounding(8) * 2 * float(e.sum()))


def test_orthogonal_low_rank_covariances_are_as_far_as_can_be() -> None:
    identity = torch.eye(6, dtype=torch.float64)
    e = torch.tensor([2.0, 1.0], dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    distance = frames_distance(identity[:, :2], e, identity[:, 2:4], e, zero)
    assert float(distance) == pytest.approx(6.0, abs=rounding(4) * 6)


def test_floor_makes_small_covariances_look_alike() -> None:
    a, b = 1e-8 * covariances(2, 6, seed=8)
    assert float(bures_squared_floored(a, b, 1e-6)) == 0.0
    assert float(bures_squared(a, b)) > 0.0


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 1.0, np.pi / 2])
def test_planes_hold_both_frames_and_count_what_they_share(angle: float) -> None:
    q = orthogonal(7, 4)
    v_a, v_b = q[:, :2], torch.stack([q[:, 0], np.cos(angle) * q[:, 1] + np.sin(angle) * q[:, 2]], dim=1)
    planes = Planes.of(v_a.mT @ v_b)
    for one, other, expected in (
        (planes.coords_a, planes.coords_a, torch.eye(2, dtype=torch.float64)),
        (planes.coords_b, planes.coords_b, torch.eye(2, dtype=torch.float64)),
        (planes.coords_a, planes.coords_b, v_a.mT @ v_b),
    ):
        torch.testing.assert_close(one.mT @ other, expected, rtol=0, atol=2 * rounding(4))
    assert int(planes.shared(1e-6)) == (2 if angle < 1e-6 else 1)
