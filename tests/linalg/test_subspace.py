import pytest
import torch

from gcwm_viz.linalg.lowrank import LowRank, squared_norm
from gcwm_viz.linalg.subspace import RightSubspace, retained_rank, right_subspace, union_basis
from tests.factories import low_rank_updates, orthogonal, updates
from tests.rounding import rounding, truncation


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (9, 9), (1, 7), (7, 1), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_leading_part_of_a_full_svd(shape: tuple[int, int], dtype: torch.dtype) -> None:
    delta = updates(1, *shape, dtype=dtype)[0]
    subspace = right_subspace(delta, rank=5, energy=1.0)
    _, singular, vt = torch.linalg.svd(delta.double(), full_matrices=False)
    r = min(5, *shape)
    assert subspace.rank == r
    # The Gram matrix and its decomposition keep σ² to the largest, below 1; the last vector turns by that over its gap.
    bound = 2 * rounding(max(shape))
    torch.testing.assert_close(subspace.energies_r, singular[:r].square(), rtol=0, atol=bound)
    turn = bound * truncation(delta, r) * float((singular[0] / singular[r - 1]) ** 2)
    torch.testing.assert_close(subspace.v_ir @ subspace.v_ir.mT, vt[:r].mT @ vt[:r], rtol=0, atol=turn)
    gram = subspace.v_ir.mT @ subspace.v_ir
    torch.testing.assert_close(gram, torch.eye(r, dtype=torch.float64), rtol=0, atol=bound)
    assert subspace.total_energy == pytest.approx(float(singular.square().sum()), rel=bound, abs=0)


@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_columns_stay_orthonormal_over_seven_decades(shape: tuple[int, int]) -> None:
    delta = updates(1, *shape, decay=8.0, dtype=torch.float64)[0]
    v = right_subspace(delta, rank=8, energy=1.0).v_ir
    # A QR factorisation and the product here.
    torch.testing.assert_close(v.mT @ v, torch.eye(v.shape[1], dtype=torch.float64), rtol=0, atol=2 * rounding(30))


def test_retained_rank_is_the_smallest_that_keeps_the_energy() -> None:
    energies = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    assert [retained_rank(energies, 1.0, e) for e in (0.01, 0.5, 0.51, 0.8, 0.9, 0.95, 1.0)] == [1, 1, 2, 2, 3, 3, 4]
    assert retained_rank(energies[:2], 1.0, 0.9) == 2


def test_energy_counts_what_the_rank_limit_cuts_off() -> None:
    delta = torch.eye(10, dtype=torch.float64)
    assert right_subspace(delta, rank=16, energy=0.75).rank == 8
    subspace = right_subspace(delta, rank=3, energy=0.75)
    assert subspace.rank == 3
    assert subspace.total_energy == pytest.approx(10.0)


def test_truncating_equals_computing_at_the_lower_rank() -> None:
    delta = updates(1, 24, 18, dtype=torch.float64)[0]
    wide, narrow = right_subspace(delta, 16, 0.95), right_subspace(delta, 4, 0.9)
    cut = wide.truncate(4, 0.9)
    assert cut.rank == narrow.rank
    torch.testing.assert_close(cut.energies_r, narrow.energies_r)
    torch.testing.assert_close(cut.v_ir.abs(), narrow.v_ir.abs())


def test_rank_deficiency_is_noticed() -> None:
    delta = low_rank_updates(1, 16, 14, 3, dtype=torch.float64)[0]
    assert right_subspace(delta, 16, 1.0).rank == 3
    assert right_subspace(delta.dense(), 16, 1.0).rank == 3


@pytest.mark.parametrize("rank", [2, 14, 20])
def test_factors_give_the_subspace_of_their_product(rank: int) -> None:
    delta = low_rank_updates(1, 16, 14, rank, dtype=torch.float64)[0]
    thin, full = right_subspace(delta, 8, 0.99), right_subspace(delta.dense(), 8, 0.99)
    assert thin.rank == full.rank
    # As above, on both sides; factors have a QR factorisation before it.
    bound = 5 * rounding(16, condition=float(full.energies_r[0] / full.energies_r[-1]))
    torch.testing.assert_close(thin.energies_r, full.energies_r, rtol=bound, atol=0)
    turn = bound * truncation(delta.dense(), full.rank)
    torch.testing.assert_close(thin.v_ir @ thin.v_ir.mT, full.v_ir @ full.v_ir.mT, rtol=0, atol=turn)


def test_a_zero_update_has_no_subspace() -> None:
    with pytest.raises(ValueError, match="zero update"):
        right_subspace(torch.zeros(3, 4), 4, 0.9)
    with pytest.raises(ValueError, match="zero update"):
        right_subspace(LowRank(torch.zeros(3, 2), torch.ones(2, 4)), 4, 0.9)


def frame(*columns: int) -> RightSubspace:
    v = torch.eye(6, dtype=torch.float64)[:, list(columns)]
    return RightSubspace(v, torch.ones(len(columns), dtype=torch.float64), float(len(columns)))


def test_union_counts_shared_directions_once() -> None:
    basis = union_basis([frame(0, 1), frame(1, 2), frame(0, 1)])
    assert basis.shape == (6, 3)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(3, dtype=torch.float64), rtol=0, atol=rounding(6))
    expected = torch.diag(torch.tensor([1.0, 1, 1, 0, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(basis @ basis.mT, expected, rtol=0, atol=rounding(6))


def test_union_keeps_a_direction_just_above_the_tolerance_and_drops_one_below() -> None:
    for angle, expected in ((1e-5, 2), (1e-8, 1)):
        tilted = torch.zeros(6, 1, dtype=torch.float64)
        tilted[0], tilted[1] = 1.0, angle
        one = torch.ones(1, dtype=torch.float64)
        assert union_basis([frame(0), RightSubspace(tilted, one, 1.0)]).shape[1] == expected


def test_union_cannot_exceed_the_space() -> None:
    q = orthogonal(6, 0)
    halves = [RightSubspace(x, torch.ones(4, dtype=torch.float64), 4.0) for x in (q[:, :4], q[:, 1:5], q[:, 2:])]
    assert union_basis(halves).shape == (6, 6)


def test_squared_norm_does_not_overflow_in_single_precision() -> None:
    for entry in (1e30, 1e-30):  # itself rounded to single precision
        expected = pytest.approx(4 * entry**2, rel=2 * rounding(1, torch.float32), abs=0)
        assert squared_norm(torch.full((2, 2), entry)) == expected
