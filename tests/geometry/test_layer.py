"""LayerGeometry: an independent dense oracle, invariances, absent updates, refused input."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from gcwm_viz import GCWMConfig, layer_geometry
from gcwm_viz.linalg.lowrank import LowRank
from tests import oracles
from tests.factories import dense_metric, low_rank_updates, orthogonal, updates
from tests.rounding import rounding, truncation

PAPER = GCWMConfig.preset("paper")
FREE = GCWMConfig.preset("scale-free")


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("shape", [(24, 16), (16, 24)])
def test_agrees_with_the_dense_oracle(shape: tuple[int, int], relative: bool) -> None:
    stack, weights = updates(3, *shape), [1.0, 2.0, 0.5]
    lam = 0.05 if relative else 1e-3
    config = GCWMConfig(rank=4, energy=0.9, lam=lam, lambda_mode="relative" if relative else "absolute", ridge=0.0)
    ours = layer_geometry(stack, weights, config)
    oracle = oracles.geometry(stack.double().numpy(), np.array(weights), rank=4, energy=0.9, lam=lam, relative=relative)
    assert ours.lam == pytest.approx(oracle.lam, rel=2 * rounding(24), abs=0)
    assert ours.union_rank == oracle.basis.shape[1]
    # Eigenvalues go from 1 down to λ. The smaller ones, and SciPy's roots of products, are exact to rounding over λ.
    bound = rounding(24, condition=1 / ours.lam)
    np.testing.assert_allclose(ours.pairwise_conflict, oracle.gamma, rtol=0, atol=bound)
    assert ours.conflict == pytest.approx(oracle.conflict, abs=bound)
    assert ours.metric is not None
    # POT's barycenter is converged to this.
    np.testing.assert_allclose(dense_metric(ours.metric), oracle.metric, rtol=0, atol=1e-8 * np.trace(oracle.metric))
    for index, spectrum in enumerate(ours.spectra):
        expected = np.linalg.eigvalsh(oracle.covariances[index])[::-1]
        np.testing.assert_allclose(spectrum, expected, rtol=bound)
    mismatch = sum(
        w * oracles.bures_squared(c, oracle.center)
        for w, c in zip(np.array(weights) / 3.5, oracle.covariances, strict=True)
    )
    # The barycenter minimises it, so that POT's distance from ours enters squared.
    assert ours.center_mismatch == pytest.approx(mismatch, abs=bound)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e6])
def test_relative_shrinkage_makes_the_signal_blind_to_scale(scale: float) -> None:
    stack = updates(3, 20, 14, dtype=torch.float64)
    base, scaled = layer_geometry(stack, config=FREE), layer_geometry(scale * stack, config=FREE)
    # Everything is homogeneous, so only the rounding of the Gram matrices differs.
    bound = 4 * rounding(20, condition=max(truncation(x, r) for x, r in zip(stack, base.retained_ranks, strict=True)))
    torch.testing.assert_close(scaled.pairwise_conflict, base.pairwise_conflict, rtol=0, atol=bound)
    assert scaled.alpha == pytest.approx(base.alpha, abs=FREE.kappa / 4 * bound)  # σ' ≤ 1/4
    assert scaled.lam == pytest.approx(scale**2 * base.lam, rel=2 * rounding(20), abs=0)
    torch.testing.assert_close(scaled.metric_spectrum, scale**2 * base.metric_spectrum, rtol=1e-8, atol=0)


def test_absolute_shrinkage_is_not_blind_to_scale_and_says_so() -> None:
    stack = updates(2, 20, 14, dtype=torch.float64)
    large, small = layer_geometry(stack, config=PAPER), layer_geometry(1e-3 * stack, config=PAPER)
    assert small.conflict < large.conflict - 0.1
    assert float(large.lambda_shares.max()) < 0.05 < float(small.lambda_shares.min())


def test_order_and_rotation_only_relabel() -> None:
    stack, weights = updates(4, 18, 12, dtype=torch.float64), [1.0, 2.0, 3.0, 0.5]
    base = layer_geometry(stack, weights, PAPER)
    order = [3, 1, 0, 2]
    shuffled = layer_geometry(stack[order], [weights[i] for i in order], PAPER)
    bound = 4 * rounding(18)
    assert shuffled.conflict == pytest.approx(base.conflict, abs=bound)
    for name in ("pairwise_conflict", "sar"):
        expected = getattr(base, name)[order][:, order]
        torch.testing.assert_close(getattr(shuffled, name), expected, rtol=0, atol=bound)
    right = orthogonal(12, 1)
    turned = layer_geometry(orthogonal(18, 0) @ stack @ right, weights, PAPER)
    bound *= max(truncation(delta, r) for delta, r in zip(stack, base.retained_ranks, strict=True))
    torch.testing.assert_close(turned.pairwise_conflict, base.pairwise_conflict, rtol=0, atol=bound)
    torch.testing.assert_close(turned.sar, base.sar, rtol=0, atol=bound)
    assert base.metric is not None
    assert turned.metric is not None
    expected = right.mT @ dense_metric(base.metric) @ right
    torch.testing.assert_close(dense_metric(turned.metric), expected, rtol=0, atol=1e-9)


def test_sar_against_its_definition() -> None:
    stack = updates(2, 15, 11, dtype=torch.float64)
    sar = layer_geometry(stack, config=GCWMConfig(rank=3)).sar
    v = [torch.linalg.svd(delta)[2][:3].mT for delta in stack]
    for i in range(2):
        for j in range(2):
            expected = torch.linalg.matrix_norm(stack[i] @ v[j]) / torch.linalg.matrix_norm(stack[i])
            bound = 4 * rounding(15, condition=truncation(stack[j], 3))
            assert float(sar[i, j]) == pytest.approx(float(expected), abs=bound)


def test_sar_never_exceeds_one() -> None:
    for seed in range(8):
        stack = updates(1, 40, 40, decay=3.0, seed=seed).repeat(2, 1, 1)
        assert float(layer_geometry(stack, config=GCWMConfig(rank=40, energy=1.0)).sar.max()) <= 1.0


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_duplicated_and_opposed_updates_have_one_geometry(sign: float) -> None:
    delta = updates(1, 12, 9)[0]
    for config in (PAPER, FREE, GCWMConfig.preset("release")):
        geometry = layer_geometry([delta, sign * delta], config=config)
        assert geometry.conflict <= 4 * rounding(9)  # γ compares where updates read, not which way they push
        assert geometry.sar.min() > 0.9
    assert layer_geometry([delta, sign * delta], config=PAPER).union_rank == geometry.retained_ranks[0]


@pytest.mark.parametrize("metric", ["barycenter", "mean"])
def test_a_single_update_has_conflict_zero_and_its_own_metric(metric: str) -> None:
    geometry = layer_geometry(updates(1, 12, 9), config=GCWMConfig(metric=metric))  # type: ignore[arg-type]
    assert geometry.conflict == 0.0
    assert geometry.mode == "blend"
    assert "g = 0 by definition" in geometry.reason
    top = float(geometry.spectra[0][0])
    # F, FᵀF, its polar factor's two, F polar, XXᵀ, and a spectrum on either side.
    torch.testing.assert_close(geometry.metric_spectrum, geometry.spectra[0], rtol=0, atol=8 * rounding(9) * top)
    assert geometry.center_mismatch <= 2 * rounding(9)


def test_mean_metric_is_the_weighted_mean() -> None:
    stack = updates(2, 12, 9)
    geometry = layer_geometry(stack, [3.0, 1.0], GCWMConfig(metric="mean"))
    reference = layer_geometry(stack, [3.0, 1.0])
    torch.testing.assert_close(geometry.metric_spectrum, reference.mean_spectrum)
    assert geometry.barycenter is None
    assert math.isnan(geometry.barycenter_residual)
    assert geometry.conflict == reference.conflict


def zeroed(stack: Tensor, *indices: int) -> Tensor:
    stack = stack.clone()
    stack[list(indices)] = 0.0
    return stack


@pytest.mark.parametrize("name", ["paper", "release", "scale-free"])
def test_absent_updates_are_nan_and_leave_the_others_as_they_were(name: str) -> None:
    config = GCWMConfig.preset(name)
    stack, weights = updates(4, 14, 10), [1.0, 5.0, 2.0, 1.0]
    geometry = layer_geometry(zeroed(stack, 1), weights, config)
    alone = layer_geometry(stack[[0, 2, 3]], [1.0, 2.0, 1.0], config)
    assert geometry.present == (0, 2, 3)
    kept = torch.tensor([0, 2, 3])
    for table in ("pairwise_conflict", "sar"):
        full = getattr(geometry, table)
        assert full[1].isnan().all()
        assert full[:, 1].isnan().all()
        assert torch.equal(full[kept][:, kept], getattr(alone, table))
    assert (geometry.conflict, geometry.alpha, geometry.lam) == (alone.conflict, alone.alpha, alone.lam)
    assert geometry.retained_ranks[1] == 0
    assert geometry.spectra[1].numel() == 0
    assert math.isnan(geometry.lambda_shares[1])


def test_nothing_present_is_undefined_with_a_reason() -> None:
    geometry = layer_geometry(torch.zeros(2, 4, 3))
    assert geometry.mode == "absent"
    assert geometry.reason == "no active update touches this matrix"
    assert all(math.isnan(x) for x in (geometry.conflict, geometry.alpha, geometry.lam, geometry.center_mismatch))
    assert math.isnan(geometry.barycenter_residual)
    assert geometry.pairwise_conflict.isnan().all()
    assert geometry.sar.isnan().all()
    assert geometry.metric is None
    assert geometry.union_rank == 0


def test_a_weight_of_zero_takes_an_update_out_of_the_geometry() -> None:
    stack = updates(3, 14, 10)
    geometry, alone = layer_geometry(stack, [1.0, 0.0, 1.0]), layer_geometry(stack[[0, 2]])
    assert geometry.present == (0, 2)
    assert geometry.conflict == alone.conflict
    assert geometry.pairwise_conflict[1].isnan().all()
    assert layer_geometry(zeroed(stack, 0, 2), [1.0, 0.0, 1.0]).mode == "absent"


@pytest.mark.parametrize("rank", [2, 30])
def test_factored_updates_equal_their_products(rank: int) -> None:
    factored = low_rank_updates(3, 14, 18, rank, dtype=torch.float64)
    ours, full = layer_geometry(factored), layer_geometry([delta.dense() for delta in factored])
    cuts = [truncation(delta.dense(), r) for delta, r in zip(factored, full.retained_ranks, strict=True)]
    bound = 4 * rounding(30, condition=max(cuts))
    torch.testing.assert_close(ours.pairwise_conflict, full.pairwise_conflict, rtol=0, atol=bound)
    torch.testing.assert_close(ours.sar, full.sar, rtol=0, atol=bound)
    mixed = layer_geometry([factored[0], factored[1].dense(), factored[2]])
    torch.testing.assert_close(mixed.pairwise_conflict, full.pairwise_conflict, rtol=0, atol=bound)


def test_an_untrained_adapter_is_absent() -> None:
    update = low_rank_updates(1, 6, 5, 2)[0]
    untrained = LowRank(torch.zeros(6, 2), update.right_ri)
    assert layer_geometry([update, untrained]).present == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_are_taken_at_their_value(dtype: torch.dtype) -> None:
    stack = updates(2, 12, 10, dtype=dtype)
    # The Gram matrices are in double precision either way.
    bound = 4 * rounding(12)
    torch.testing.assert_close(
        layer_geometry(stack).pairwise_conflict, layer_geometry(stack.double()).pairwise_conflict, rtol=0, atol=bound
    )
    factored = [delta.to(dtype=dtype) for delta in low_rank_updates(2, 12, 10, 3)]
    widened = [delta.to(dtype=torch.float64) for delta in factored]
    assert layer_geometry(factored).conflict == pytest.approx(layer_geometry(widened).conflict, abs=bound)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("name", ["paper", "release", "scale-free"])
def test_vectors_are_matrices_too(shape: tuple[int, int], name: str) -> None:
    geometry = layer_geometry(updates(3, *shape), config=GCWMConfig.preset(name))
    assert 0.0 <= geometry.conflict <= 1.0
    assert geometry.union_rank <= shape[1]
    if shape[1] == 1:  # equal norms on the only axis there is: one and the same geometry
        assert geometry.conflict <= 1e-7


def test_one_input_column_compares_strengths_in_closed_form() -> None:
    column = torch.ones(4, 1, dtype=torch.float64)
    config = GCWMConfig(lam=1e-30, lambda_mode="absolute")
    geometry = layer_geometry([column, 2 * column], config=config)
    assert geometry.conflict == pytest.approx(0.2, abs=2 * rounding(4))  # (2 − 1)² / (2² + 1)


@pytest.mark.parametrize(
    ("bad", "weights", "message"),
    [
        (torch.zeros(4, 3), None, r"\(m, d_out, d_in\), got shape \(4, 3\)"),
        ([], None, "at least one matrix"),
        ([torch.ones(3, 2), torch.ones(2, 3)], None, r"update 0 is \(3, 2\), update 1 is \(2, 3\)"),
        ([torch.ones(3), torch.ones(3)], None, "2-D"),
        ([torch.ones(2, 2), torch.full((2, 2), float("nan"))], None, "update 1 holds NaN or Inf"),
        ([torch.tensor([[float("inf")]])], None, "update 0 holds NaN or Inf"),
        ([torch.ones(2, 2)], [1.0, 2.0], "expected 1, got 2"),
        ([torch.ones(2, 2)], [-1.0], "at least 0"),
        ([torch.ones(2, 2)], [0.0], "not all 0"),
        ([torch.ones(2, 2)], [float("nan")], "finite"),
    ],
)
def test_unusable_input_is_refused(bad: object, weights: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layer_geometry(bad, weights)  # type: ignore[arg-type]
