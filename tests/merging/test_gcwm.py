"""The gated merge: Proposition 1, Lemma 1, a dense oracle end to end, and the edges."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gcwm_viz import GCWMConfig, merge_layer
from tests import oracles
from tests.factories import low_rank_updates, orthogonal, updates
from tests.rounding import rounding, truncation

PRESETS = ["paper", "release", "scale-free"]
WEIGHTS = [1.0, 2.0, 0.5]


def exact(**changes: Any) -> GCWMConfig:
    return GCWMConfig(precision="float64", **changes)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (6, 40)])
@pytest.mark.parametrize("lam", [1.0, 0.01])
def test_agrees_with_the_dense_oracle(shape: tuple[int, int], lam: float) -> None:
    stack = updates(3, *shape, dtype=torch.float64)
    config = exact(rank=4, lam=lam, mu_rel=0.3, ridge=0.0)
    ours: Any = merge_layer(stack, WEIGHTS, config)
    updates_np, weights = stack.numpy(), np.array(WEIGHTS)
    geometry = oracles.geometry(updates_np, weights, rank=4, energy=config.energy, lam=lam, relative=True)
    plain, geo = oracles.gcwm_exact(updates_np, weights, geometry.metric, config.mu_rel)
    # The normal equations have condition tr H / μ = d_in / mu_rel.
    np.testing.assert_allclose(ours.plain, plain, rtol=0, atol=rounding(max(shape), condition=shape[1] / 0.3))
    # POT's barycenter is the least exact part.
    np.testing.assert_allclose(ours.geo, geo, rtol=0, atol=1e-7)
    np.testing.assert_allclose(ours.merged, ours.alpha * geo + (1 - ours.alpha) * plain, rtol=0, atol=1e-7)
    start = stack.sum(0)
    for shift, branch in ((ours.plain_shift, ours.plain), (ours.geo_shift, ours.geo)):
        assert shift == pytest.approx(float((branch - start).norm() / start.norm()), abs=rounding(max(shape)))


@pytest.mark.parametrize("ridge", [None, 0.0])
def test_displacement_is_measured_in_the_metric_of_equation_15(ridge: float | None) -> None:
    """Dense: tr X𝓑Xᵀ with 𝓑 = QB̄Qᵀ + λ(I − QQᵀ), with the default preset's ridge in the whitening as without one."""
    config = exact(rank=4, ridge=ridge)
    stack = updates(3, 20, 14, decay=0.5, dtype=torch.float64)
    ours: Any = merge_layer(stack, WEIGHTS, config)
    assert ours.geometry.metric is not None
    assert (ours.geometry.metric.ridge > 0) == (ridge is None)
    geometry = oracles.geometry(
        stack.numpy(), np.array(WEIGHTS), rank=4, energy=config.energy, lam=config.lam, relative=True
    )
    x = (ours.geo - ours.plain).numpy()
    # POT's barycenter is exact to 5e-8, its root to half of that.
    assert ours.displacement == pytest.approx(float(np.trace(x @ geometry.metric @ x.T)) ** 0.5, rel=2.5e-8)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_proposition_1(preset: str, precision: str) -> None:
    settings = GCWMConfig.preset(preset).to_dict() | {"precision": precision, "kappa": 1.0}
    merge: Any = merge_layer(updates(3, 20, 14, decay=0.5), WEIGHTS, GCWMConfig.from_dict(settings))
    metric = merge.geometry.metric
    assert metric is not None
    assert merge.mode == "blend"
    assert merge.displacement > 0

    def distance(a: Tensor, b: Tensor) -> float:
        return float(metric.norm((a - b).double()))

    # The branches differ in a few digits of single precision, and 𝓑 weighs their rounding by up to √tr 𝓑.
    start = float(torch.linalg.matrix_norm(merge.plain))
    bound = rounding(4, merge.plain.dtype) * start * float(metric.values_u.max()) ** 0.5
    assert distance(merge.geo, merge.plain) == pytest.approx(merge.displacement, abs=bound)
    assert distance(merge.merged, merge.plain) == pytest.approx(merge.alpha * merge.displacement, abs=bound)
    assert distance(merge.merged, merge.geo) == pytest.approx((1 - merge.alpha) * merge.displacement, abs=bound)


@pytest.mark.parametrize("seed", range(6))
def test_lemma_1(seed: int) -> None:
    m = 2 + seed % 3
    stack = updates(m, 18, 14, overlap=0.15 * seed, decay=0.4, seed=seed)
    weights = [1.0 + (3 * seed + i) % 4 for i in range(m)]
    for lam in (1.0, 1e-3):
        merge: Any = merge_layer(stack, weights, GCWMConfig(lam=lam))
        traces = torch.stack([spectrum.sum() for spectrum in merge.spectra])
        top = float(torch.topk(traces, 2).values.sum())
        assert 0.0 < merge.center_mismatch <= top * merge.conflict


@pytest.mark.parametrize("preset", PRESETS)
def test_order_does_not_matter(preset: str) -> None:
    stack, order = updates(3, 16, 12, dtype=torch.float64), [2, 0, 1]
    config = GCWMConfig.from_dict(GCWMConfig.preset(preset).to_dict() | {"precision": "float64"})
    one: Any = merge_layer(stack, WEIGHTS, config)
    other = merge_layer(stack[order], [WEIGHTS[i] for i in order], config)
    # Exact numerics to the barycenter's tolerance; the released ones to single precision's.
    tolerance = 1e-4 if preset == "release" else 1e-8
    torch.testing.assert_close(other.merged, one.merged, rtol=0, atol=tolerance)


def test_the_exact_merge_turns_with_input_and_output_space() -> None:
    stack = updates(3, 16, 12, dtype=torch.float64)
    left, right = orthogonal(16, 0), orthogonal(12, 1)
    one: Any = merge_layer(stack, WEIGHTS, exact())
    turned: Any = merge_layer(left @ stack @ right, WEIGHTS, exact())
    for branch in ("plain", "geo", "merged"):
        expected = left @ getattr(one, branch) @ right
        torch.testing.assert_close(getattr(turned, branch), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e6])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_scale_free_merge_scales_with_the_updates(scale: float, precision: str) -> None:
    stack = updates(3, 16, 12, dtype=torch.float64)
    config = GCWMConfig.from_dict(GCWMConfig().to_dict() | {"precision": precision})
    one: Any = merge_layer(stack, config=config)
    scaled: Any = merge_layer(scale * stack, config=config)
    tolerance = 1e-5 if precision == "float32" else 1e-9
    torch.testing.assert_close(scaled.merged / scale, one.merged, rtol=0, atol=tolerance)
    assert scaled.plain_shift == pytest.approx(one.plain_shift, rel=1e-4)


@pytest.mark.parametrize("mu_rel", [0.3, 1e-2, 1e-4])
@pytest.mark.parametrize("decay", [1.0, 3.0])
def test_single_precision_is_single_precision_however_flat_the_problem(mu_rel: float, decay: float) -> None:
    stack = updates(3, 48, 40, decay=decay)
    single: Any = merge_layer(stack, config=GCWMConfig(mu_rel=mu_rel))
    double: Any = merge_layer(stack, config=exact(mu_rel=mu_rel))
    for branch in ("plain", "geo", "merged"):
        ours, reference = getattr(single, branch).double(), getattr(double, branch)
        # The sum, the displacement and the blend are each rounded once; branches may be smaller than the sum.
        assert float((ours - reference).norm() / stack.double().sum(0).norm()) < 5e-7


def test_gate_and_metric_ablations() -> None:
    stack = updates(3, 16, 12, dtype=torch.float64)
    full: Any = merge_layer(stack, WEIGHTS, exact())
    ungated: Any = merge_layer(stack, WEIGHTS, exact(gate="none"))
    assert (ungated.alpha, ungated.mode) == (1.0, "geo")
    assert torch.equal(ungated.merged, full.geo)
    averaged: Any = merge_layer(stack, WEIGHTS, exact(metric="mean"))
    assert averaged.alpha == full.alpha
    assert torch.equal(averaged.plain, full.plain)
    assert not torch.allclose(averaged.geo, full.geo)


@pytest.mark.parametrize(
    ("alpha", "mode", "branch"), [(0.05, "plain", "plain"), (0.95, "geo", "geo"), (0.0, "plain", "plain")]
)
def test_near_the_ends_of_the_gate_one_branch_is_the_merge(alpha: float, mode: str, branch: str) -> None:
    merge: Any = merge_layer(updates(2, 10, 8), config=GCWMConfig(alpha_min=alpha, alpha_max=alpha))
    assert merge.mode == mode
    assert torch.equal(merge.merged, getattr(merge, branch))
    assert merge.merged.data_ptr() != getattr(merge, branch).data_ptr()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_single_update_comes_out_untouched(preset: str) -> None:
    stack = updates(1, 12, 9)
    merge: Any = merge_layer(stack, config=GCWMConfig.preset(preset))
    for branch in (merge.plain, merge.geo, merge.merged):
        # Whitening can turn the rounding of H into a gradient; Adam's ε keeps it far below one step of 1e-5.
        torch.testing.assert_close(branch, stack[0], rtol=0, atol=1e-6)
    assert merge.conflict == 0.0


@pytest.mark.parametrize("preset", PRESETS)
def test_absent_updates_do_not_touch_the_merge_of_the_others(preset: str) -> None:
    config = GCWMConfig.preset(preset)
    stack = updates(4, 14, 10)
    stack[1] = 0.0
    ours: Any = merge_layer(stack, [1.0, 9.0, 2.0, 1.0], config)
    alone: Any = merge_layer(stack[[0, 2, 3]], [1.0, 2.0, 1.0], config)
    assert torch.equal(ours.merged, alone.merged)
    assert ours.displacement == alone.displacement


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_nothing_present_merges_to_zero_and_undefined_signals(dtype: torch.dtype, precision: str) -> None:
    config = GCWMConfig.from_dict(GCWMConfig().to_dict() | {"precision": precision})
    merge: Any = merge_layer(torch.zeros(2, 4, 3, dtype=dtype), config=config)
    assert merge.mode == "absent"
    assert merge.merged.shape == (4, 3)
    assert merge.merged.count_nonzero() == 0
    assert merge.merged.dtype == merge_layer(torch.ones(2, 4, 3, dtype=dtype), config=config).merged.dtype
    assert all(math.isnan(x) for x in (merge.displacement, merge.plain_shift, merge.geo_shift, merge.alpha))
    assert merge.plain_solution is None


@pytest.mark.parametrize("preset", PRESETS)
def test_opposed_updates_cancel_in_every_branch(preset: str) -> None:
    delta = updates(1, 12, 9)[0]
    merge: Any = merge_layer([delta, -delta], config=GCWMConfig.preset(preset))
    for branch in (merge.plain, merge.geo, merge.merged):
        assert float(branch.abs().max()) <= 1e-6
    assert math.isnan(merge.plain_shift)


@pytest.mark.parametrize("preset", PRESETS)
def test_inputs_are_left_alone_and_results_repeat_to_the_bit(preset: str) -> None:
    config = GCWMConfig.preset(preset)
    for dtype in (torch.float32, torch.float64):
        stack = updates(3, 12, 40, dtype=dtype)
        before = stack.clone()
        first: Any = merge_layer(stack, WEIGHTS, config)
        second: Any = merge_layer(stack, WEIGHTS, config)
        assert torch.equal(stack, before)
        for branch in ("plain", "geo", "merged"):
            assert torch.equal(getattr(first, branch), getattr(second, branch))
        assert first.merged.data_ptr() not in {stack.data_ptr(), first.plain.data_ptr(), first.geo.data_ptr()}
    factored = low_rank_updates(2, 12, 9, 3)
    kept = [(delta.left_or.clone(), delta.right_ri.clone()) for delta in factored]
    merge_layer(factored, config=config)
    assert all(
        torch.equal(delta.left_or, left) and torch.equal(delta.right_ri, right)
        for delta, (left, right) in zip(factored, kept, strict=True)
    )


@pytest.mark.parametrize("solver", ["adam", "exact"])
@pytest.mark.parametrize("rank", [3, 12])
def test_factored_updates_merge_like_their_products(solver: str, rank: int) -> None:
    factored = low_rank_updates(3, 14, 18, rank, dtype=torch.float64)
    config = exact(solver=solver)
    thin: Any = merge_layer(factored, WEIGHTS, config)
    full: Any = merge_layer([x.dense() for x in factored], WEIGHTS, config)
    for branch in ("plain", "geo", "merged"):
        torch.testing.assert_close(getattr(thin, branch), getattr(full, branch), rtol=0, atol=1e-9)
    # α follows γ by κ/4 at most, γ the rounding of factors and products by the gap where a frame is cut.
    cut = max(truncation(x.dense(), r) for x, r in zip(factored, full.retained_ranks, strict=True))
    assert thin.alpha == pytest.approx(full.alpha, abs=config.kappa / 4 * 4 * rounding(18, condition=cut))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_updates_merge_at_their_value(dtype: torch.dtype) -> None:
    stack = updates(2, 12, 10, dtype=dtype)
    merge: Any = merge_layer(stack)
    assert merge.merged.dtype == torch.float32
    single: Any = merge_layer(stack.float())
    assert torch.equal(merge.merged, single.merged)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (1, 1)])
@pytest.mark.parametrize("preset", PRESETS)
def test_vectors_are_matrices_too(shape: tuple[int, int], preset: str) -> None:
    merge: Any = merge_layer(updates(3, *shape), config=GCWMConfig.preset(preset))
    assert merge.merged.shape == shape
    assert torch.isfinite(merge.merged).all()


def test_the_papers_learning_rate_hardly_moves_the_branches() -> None:
    settings = GCWMConfig.preset("paper").to_dict() | {"iters": 20}
    merge: Any = merge_layer(updates(3, 40, 40, decay=0.5), config=GCWMConfig.from_dict(settings))
    assert 0 < merge.geo_shift < 0.01
    assert 0 < merge.plain_shift < 0.01
    assert merge.geo_solution is not None
    assert not merge.geo_solution.converged
