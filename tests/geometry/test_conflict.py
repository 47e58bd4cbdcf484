"""Geometry conflict: closed forms, invariances, pair basis and union basis."""

import pytest
import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.conflict import Projected, layer_conflict, union_conflict
from gcwm_viz.linalg.bures import bures_squared, bures_squared_of_roots
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace, union_basis
from gcwm_viz.signals.pairwise import Pairs
from tests.factories import orthogonal, updates
from tests.rounding import rounding, truncation


def subspace(values: list[float], columns: list[int], dim: int = 8) -> RightSubspace:
    energies = torch.tensor(values, dtype=torch.float64)
    return RightSubspace(torch.eye(dim, dtype=torch.float64)[:, columns], energies, float(energies.sum()))


def union(subspaces: list[RightSubspace], lam: float) -> Tensor:
    return union_conflict(Projected.of(subspaces, union_basis(subspaces)), lam)


def pairs(subspaces: list[RightSubspace], lam: float, mode: str) -> Tensor:
    config = GCWMConfig(lam=lam, lambda_mode=mode)  # type: ignore[arg-type]
    return Pairs(config).gammas(subspaces)


@pytest.mark.parametrize("lam", [1e-30, 1e-9, 1e-3, 1.0])
def test_diagonal_covariances_have_a_closed_form(lam: float) -> None:
    a, b = [4.0, 1.0], [1.0, 2.0]  # on axes 0, 1 and 1, 2: the union has dimension 3
    gamma = union([subspace(a, [0, 1]), subspace(b, [2, 1])], lam)
    full_a = torch.tensor([4.0, 1.0, 0.0], dtype=torch.float64) + lam
    full_b = torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64) + lam
    expected = (full_a.sqrt() - full_b.sqrt()).square().sum() / (full_a.sum() + full_b.sum())
    assert float(gamma[0, 1]) == pytest.approx(float(expected), abs=2 * rounding(3))


@pytest.mark.parametrize("lam", [1e-12, 1e-6, 1e-2])
def test_the_shrinkage_enters_in_full_double_precision(lam: float) -> None:
    # Orthogonal directions of tiny energy: γ is a steep function of λ, so a λ rounded to single precision shows.
    e = lam
    gamma = float(union([subspace([e], [0]), subspace([e], [1])], lam)[0, 1])
    a = torch.tensor([2.0 * lam, lam], dtype=torch.float64)
    expected = float((a.sqrt() - a.flip(0).sqrt()).square().sum() / (2 * a.sum()))
    # d² is the small difference of traces: γ is exact to rounding of the traces, that is of 1.
    assert gamma == pytest.approx(expected, abs=2 * rounding(2))


def test_one_dimension() -> None:
    gamma = union([subspace([4.0], [0], dim=1), subspace([9.0], [0], dim=1)], 1e-30)
    assert float(gamma[0, 1]) == pytest.approx((3 - 2) ** 2 / 13, abs=2 * rounding(1))


def test_identical_is_zero_and_orthogonal_tends_to_one() -> None:
    one = subspace([3.0, 2.0, 1.0], [0, 1, 2])
    other = subspace([3.0, 2.0, 1.0], [3, 4, 5])
    assert float(union([one, one], 1e-6)[0, 1]) <= 2 * rounding(3)
    gammas = [float(union([one, other], lam)[0, 1]) for lam in (1e-1, 1e-3, 1e-6, 1e-12, 1e-40)]
    assert gammas == sorted(gammas)
    assert gammas[-1] == pytest.approx(1.0, abs=2 * rounding(6))
    assert gammas[0] < 0.9


def test_the_same_subspace_at_another_strength_conflicts_by_strength_alone() -> None:
    one = subspace([3.0, 2.0], [0, 1])
    stronger = subspace([12.0, 8.0], [0, 1])  # twice the update: (2 − 1)² / (4 + 1)
    assert float(union([one, stronger], 1e-30)[0, 1]) == pytest.approx(0.2, abs=2 * rounding(2))


def test_order_and_rotation_only_relabel() -> None:
    stack = updates(3, 20, 15, dtype=torch.float64)

    def gamma(x: Tensor) -> Tensor:
        return union([right_subspace(delta, 6, 0.99) for delta in x], 1e-4)

    base = gamma(stack)
    order = [2, 0, 1]
    torch.testing.assert_close(gamma(stack[order]), base[order][:, order], rtol=0, atol=4 * rounding(15))
    # Right singular geometry turns with the input space and does not see the output space.
    turned = orthogonal(20, 1) @ stack @ orthogonal(15, 2)
    # Two products turn the updates; where the frames are cut they follow by the gap there.
    cut = max(truncation(delta, 6) for delta in stack)
    torch.testing.assert_close(gamma(turned), base, rtol=0, atol=4 * rounding(20, condition=cut))


def test_pairs_have_their_own_basis_and_agree_with_the_union_for_two() -> None:
    one, two, three = (right_subspace(d, 4, 0.99) for d in updates(3, 16, 12, dtype=torch.float64))
    lam = 1e-3
    together, separate = union([one, two, three], lam), pairs([one, two, three], lam, "absolute")
    for i, j, couple in ((0, 1, [one, two]), (0, 2, [one, three]), (1, 2, [two, three])):
        alone = float(union(couple, lam)[0, 1])
        assert float(separate[i, j]) == pytest.approx(alone, abs=4 * rounding(8))
        # A larger basis only adds λ to the denominator.
        assert float(together[i, j]) < alone


def test_relative_shrinkage_is_each_pairs_own() -> None:
    strong, weak, weaker = subspace([1e4], [0]), subspace([1e-4], [1]), subspace([1e-4], [2])
    gamma = pairs([strong, weak, weaker], 1e-3, "relative")
    alone = pairs([weak, weaker], 1e-3, "relative")
    assert float(gamma[1, 2]) == pytest.approx(float(alone[0, 1]), abs=4 * rounding(2))


def test_layer_conflict_weighs_pairs_by_the_product_of_weights() -> None:
    gamma = torch.tensor([[0.0, 0.1, 0.2], [0.1, 0.0, 0.4], [0.2, 0.4, 0.0]], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    expected = (2 * 0.1 + 3 * 0.2 + 6 * 0.4) / 11
    assert layer_conflict(gamma, weights) == pytest.approx(expected, abs=rounding(3))
    assert layer_conflict(gamma, 10 * weights) == pytest.approx(expected, abs=rounding(3))
    assert layer_conflict(gamma[:1, :1], weights[:1]) == 0.0


def test_spectra_and_roots_in_closed_form_are_those_of_the_covariances() -> None:
    subspaces = [right_subspace(delta, rank, 0.99) for delta, rank in zip(updates(3, 12, 20), (2, 4, 3), strict=True)]
    projected = Projected.of(subspaces, union_basis(subspaces))
    covariances = projected.covariances(1e-4)
    bound = 4 * rounding(9)  # of dimension 2 + 4 + 3; the largest eigenvalue is below 1
    torch.testing.assert_close(projected.spectra(1e-4), torch.linalg.eigvalsh(covariances).flip(1), rtol=0, atol=bound)
    roots = projected.roots(1e-4)
    distance = bures_squared_of_roots(roots[0], roots[1])
    # Roots taken of the covariances lose 1/√ of the smallest eigenvalue, 1e-4.
    expected = float(bures_squared(covariances[0], covariances[1]))
    assert float(distance) == pytest.approx(expected, abs=rounding(9, condition=1e4**0.5))
