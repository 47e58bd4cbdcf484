"""The quadratic form of WUDI against the loss itself, automatic differentiation and LAPACK's least squares."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import layer_geometry
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.merging.gcwm import merge_layer
from gcwm_viz.merging.products import gradient_of
from gcwm_viz.merging.quadratic import Quadratic, build_pair, build_quadratic, plain_sum
from gcwm_viz.merging.solvers import Solution, lowest_share, solve, solve_adam, solve_exact, solve_filtered
from tests import oracles
from tests.factories import generator, low_rank_updates, updates
from tests.rounding import rounding

WEIGHTS = [1.0, 2.0, 0.5]
SHAPES = [(12, 9), (9, 12), (4, 40)]
"""The last is wide enough for the factored form of dense updates."""


def loss(displacement: Tensor, stack: Tensor, weights: list[float]) -> float:
    return float(oracles.wudi_loss(stack.sum(0) + displacement, stack, torch.tensor(weights, dtype=stack.dtype)))


def value(quadratic: Quadratic, displacement: Tensor) -> float:
    slope = quadratic.gradient_at_start() + gradient(quadratic, displacement) / 2
    return quadratic.start + float((slope * displacement).sum())


def gradient(quadratic: Quadratic, displacement: Tensor) -> Tensor:
    return quadratic.gradient_at(displacement, out=torch.empty_like(displacement))


@pytest.mark.parametrize("shape", SHAPES)
def test_quadratic_is_the_loss_everywhere(shape: tuple[int, int]) -> None:
    stack = updates(3, *shape, dtype=torch.float64)
    quadratic = build_quadratic(list(stack), WEIGHTS)
    assert (quadratic.factor_ik is not None) == (shape == (4, 40))
    bound = 4 * rounding(max(shape))  # H, its product with D, and the sums of the loss on either side
    assert quadratic.trace == pytest.approx(sum(WEIGHTS), rel=bound, abs=0)  # tr Δ_iᵀΔ_i / ‖Δ_i‖² = 1
    for seed in range(3):
        displacement = torch.randn(*shape, generator=generator(seed), dtype=torch.float64)
        assert value(quadratic, displacement) == pytest.approx(loss(displacement, stack, WEIGHTS), rel=bound, abs=0)
    assert quadratic.start == pytest.approx(loss(torch.zeros(shape), stack, WEIGHTS), rel=bound, abs=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_is_the_gradient_of_the_loss(shape: tuple[int, int]) -> None:
    stack = updates(3, *shape, dtype=torch.float64)
    displacement = torch.randn(*shape, generator=generator(1), dtype=torch.float64)
    merged = (stack.sum(0) + displacement).requires_grad_()
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    (expected,) = torch.autograd.grad(oracles.wudi_loss(merged, stack, weights), merged)
    quadratic = build_quadratic(list(stack), WEIGHTS)
    bound = 4 * rounding(max(shape)) * float(expected.abs().max())
    torch.testing.assert_close(gradient(quadratic, displacement), expected, rtol=0, atol=bound)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lr", [1e-5, 1e-3])
def test_adam_follows_pytorchs_adam_on_the_loss(shape: tuple[int, int], lr: float) -> None:
    stack = updates(3, *shape, dtype=torch.float64)
    merged, losses = oracles.wudi_adam(stack, torch.tensor(WEIGHTS, dtype=torch.float64), 60, lr)
    solution: Any = solve_adam(build_quadratic(list(stack), WEIGHTS), 60, lr)
    # Adam divides by the size of the gradient, so rounding grows where an entry changes sign: a part of one step.
    torch.testing.assert_close(stack.sum(0) + solution.displacement_oi, merged, rtol=0, atol=1e-4 * lr)
    for iteration, objective, _ in solution.path:
        assert objective == pytest.approx(losses[iteration], rel=1e-9)


def test_path_is_the_true_loss_of_the_branch_it_describes() -> None:
    stack = updates(3, 12, 9, dtype=torch.float64)
    quadratic = build_quadratic(list(stack), WEIGHTS)
    solution: Any
    for solution in (solve_adam(quadratic, 100, 1e-3), solve_exact(quadratic, 0.3)):
        first, last = solution.path[0], solution.path[-1]
        assert first == (0, pytest.approx(loss(torch.zeros(12, 9), stack, WEIGHTS)), 0.0)
        assert last[0] == solution.iterations
        bound = 4 * rounding(12)
        assert last[1] == pytest.approx(loss(solution.displacement_oi, stack, WEIGHTS), rel=bound, abs=0)
        assert last[2] == pytest.approx(float(solution.displacement_oi.norm()), rel=bound, abs=0)
        assert last[1] < first[1]


@pytest.mark.parametrize("iters", [1, 7, 25, 26, 100])
def test_path_starts_and_ends_with_the_solver(iters: int) -> None:
    quadratic = build_quadratic(list(updates(2, 6, 5)), [1.0, 1.0])
    path = solve_adam(quadratic, iters, 1e-4).path
    assert [path[0][0], path[-1][0]] == [0, iters]
    assert len(path) <= 26
    assert sorted({point[0] for point in path}) == [point[0] for point in path]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mu_rel", [1e-6, 1e-2, 0.3, 10.0])
def test_exact_solver_agrees_with_least_squares(shape: tuple[int, int], mu_rel: float) -> None:
    stack = updates(3, *shape, dtype=torch.float64)
    solution: Any = solve_exact(build_quadratic(list(stack), WEIGHTS), mu_rel)
    assert solution.converged
    expected = oracles.wudi_exact(stack.numpy(), np.array(WEIGHTS), mu_rel)
    # The normal equations have condition tr H / μ = d_in / mu_rel.
    atol = rounding(max(shape), condition=1 + shape[1] / mu_rel)
    np.testing.assert_allclose(stack.sum(0) + solution.displacement_oi, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_strong_proximal_term_keeps_the_sum_and_a_weak_one_gives_the_minimiser(shape: tuple[int, int]) -> None:
    stack = updates(2, *shape, decay=0.3, dtype=torch.float64)
    quadratic = build_quadratic(list(stack), [1.0, 1.0])
    stiff: Any = solve_exact(quadratic, 1e9)
    assert float(stiff.displacement_oi.norm()) < 1e-8
    pure: Any = solve_exact(quadratic, 1e-9)
    expected = oracles.wudi_exact(stack.numpy(), np.ones(2), 0.0)
    np.testing.assert_allclose(stack.sum(0) + pure.displacement_oi, expected, rtol=0, atol=1e-5)
    solutions: list[Any] = [solve_exact(quadratic, mu) for mu in (10.0, 1.0, 0.1, 1e-3)]
    losses = [loss(solution.displacement_oi, stack, [1.0, 1.0]) for solution in solutions]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(
    ("dtype", "mu_rel"), [(torch.float32, 1e-9), (torch.float64, 1e-18), (torch.float64, 1e-14), (torch.float64, 1e-9)]
)
def test_a_vanishing_proximal_term_on_a_singular_problem_still_solves(dtype: torch.dtype, mu_rel: float) -> None:
    stack = torch.stack([delta.dense() for delta in low_rank_updates(2, 12, 10, 2, dtype=torch.float64)])
    quadratic = build_quadratic(list(stack.to(dtype)), [1.0, 1.0])
    solution: Any = solve_exact(quadratic, mu_rel)
    expected = oracles.wudi_exact(stack.numpy(), np.ones(2), 0.0)
    values = torch.linalg.eigvalsh(build_quadratic(list(stack), [1.0, 1.0]).hessian_ii)
    # The rank is 4 of 10. Where μ is below the precision of H the null directions are left out; else they divide by μ.
    condition = 10 / mu_rel if mu_rel > 10**2 * torch.finfo(dtype).eps else float(values[-1] / values[-4])
    atol = rounding(10, dtype, condition)
    np.testing.assert_allclose(stack.sum(0) + solution.displacement_oi, expected, rtol=0, atol=atol)


def factored_and_dense(rank: int, d_out: int = 12, d_in: int = 20) -> tuple[Quadratic, Quadratic, list[Update]]:
    factored: list[Update] = list(low_rank_updates(3, d_out, d_in, rank, dtype=torch.float64))
    full = [delta.dense() for delta in factored if isinstance(delta, LowRank)]
    return build_quadratic(factored, WEIGHTS), build_quadratic(full, WEIGHTS), factored


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_factored_updates_give_the_quadratic_of_their_products(rank: int) -> None:
    thin, full, factored = factored_and_dense(rank)
    assert (thin.factor_ik is not None) == (3 * rank <= 20)
    assert full.factor_ik is None
    bound = 4 * rounding(20)
    assert thin.start == pytest.approx(full.start, rel=bound, abs=0)
    assert thin.trace == pytest.approx(full.trace, rel=bound, abs=0)
    start = full.gradient_at_start()
    torch.testing.assert_close(thin.gradient_at_start(), start, rtol=0, atol=bound * float(start.abs().max()))
    x = torch.randn(12, 20, generator=generator(0), dtype=torch.float64)
    expected = gradient(full, x)
    torch.testing.assert_close(gradient(thin, x), expected, rtol=0, atol=bound * float(expected.abs().max()))
    one, other = solve_exact(thin, 0.3), solve_exact(full, 0.3)
    assert isinstance(one.displacement_oi, LowRank) == (3 * rank <= 20)
    solved = rounding(20, condition=20 / 0.3)  # tr H / μ
    torch.testing.assert_close(dense(one.displacement_oi), other.displacement_oi, rtol=0, atol=solved)
    assert one.residual == pytest.approx(other.residual, abs=solved)
    for point, reference in zip(one.path, other.path, strict=True):
        assert point == pytest.approx(
            reference, abs=solved * full.start
        )  # the objective is the small rest of its start
    torch.testing.assert_close(
        solve_adam(thin, 30, 1e-4).displacement_oi, solve_adam(full, 30, 1e-4).displacement_oi, rtol=0, atol=1e-9
    )
    assert plain_sum(factored).shape == (12, 20)


def test_mixed_forms_are_one_problem() -> None:
    factored = low_rank_updates(2, 12, 20, 3, dtype=torch.float64)
    mixed = build_quadratic([factored[0], factored[1].dense()], [1.0, 1.0])
    full = build_quadratic([delta.dense() for delta in factored], [1.0, 1.0])
    # G₀ is the difference of M₀H and C, which are as large as the updates.
    bound = 4 * rounding(20) * max(float(delta.dense().abs().max()) for delta in factored)
    torch.testing.assert_close(mixed.gradient_at_start(), full.gradient_at_start(), rtol=0, atol=bound)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_single_update_is_already_the_minimum(shape: tuple[int, int], dtype: torch.dtype) -> None:
    quadratic = build_quadratic(list(updates(1, *shape, dtype=dtype)), [2.0])
    solution: Any
    for solution in (solve_adam(quadratic, 20, 1e-2), solve_exact(quadratic, 0.3)):
        assert solution.displacement_oi.count_nonzero() == 0
        assert (solution.residual, solution.converged) == (0.0, True)
        assert solution.path[-1][1] == 0.0


@pytest.mark.parametrize("rank", [2, 30])
def test_a_single_factored_update_is_not_moved_either(rank: int) -> None:
    (update,) = low_rank_updates(1, 12, 20, rank)
    assert dense(solve_exact(build_quadratic([update], [1.0]), 0.3).displacement_oi).count_nonzero() == 0


def test_opposed_updates_cancel_and_stay_cancelled() -> None:
    delta = updates(1, 8, 6)[0]
    quadratic = build_quadratic([delta, -delta], [1.0, 1.0])
    solution: Any = solve_exact(quadratic, 0.3)
    assert solution.displacement_oi.abs().max() <= 1e-9
    # The sum, zero, reproduces neither: f = 2 ‖ΔΔᵀ‖² / ‖Δ‖².
    assert quadratic.start == pytest.approx(2 * float((delta @ delta.T).square().sum() / delta.square().sum()))


def test_duplicates_are_pulled_from_their_sum_towards_the_one_update() -> None:
    delta = updates(1, 8, 6, decay=0.2, dtype=torch.float64)[0]
    solution: Any = solve_exact(build_quadratic([delta, delta], [1.0, 1.0]), 1e-10)
    torch.testing.assert_close(2 * delta + solution.displacement_oi, delta, rtol=0, atol=1e-7)


def test_residual_tells_an_unconverged_solver() -> None:
    quadratic = build_quadratic(list(updates(3, 12, 9, dtype=torch.float64)), WEIGHTS)

    def run(iters: int, lr: float) -> Solution:
        return solve_adam(quadratic, iters, lr)

    short = run(20, 1e-5)
    assert not short.converged
    assert 0.9 < short.residual <= 1.0
    assert run(4000, 3e-3).residual < 0.2
    assert solve_exact(quadratic, 0.3).residual < rounding(12, condition=9 / 0.3)  # tr H / μ


def test_weights_are_taken_unnormalised() -> None:
    stack = list(updates(2, 8, 6, dtype=torch.float64))
    once, twice = build_quadratic(stack, [1.0, 1.0]), build_quadratic(stack, [2.0, 2.0])
    assert twice.start == 2 * once.start  # twice a number is not rounded
    # μ follows tr H, so the closed form does not see a common factor; its Cholesky factor, by √2, is rounded anew.
    one: Any = solve_exact(once, 0.3).displacement_oi
    other: Any = solve_exact(twice, 0.3).displacement_oi
    bound = rounding(8, condition=6 / 0.3) * float(one.abs().max())
    torch.testing.assert_close(other, one, rtol=0, atol=bound)


@pytest.mark.parametrize("shape", SHAPES)
def test_lowest_share_is_the_objective_of_the_closed_form(shape: tuple[int, int]) -> None:
    quadratic = build_quadratic(list(updates(3, *shape, dtype=torch.float64)), WEIGHTS)
    for mu_rel in (1e-6, 0.1):
        path = solve_exact(quadratic, mu_rel).path
        # At its minimum the objective does not follow the rounding of the solution.
        lowest = path[-1][1] / path[0][1]
        assert lowest_share(quadratic, mu_rel) == pytest.approx(lowest, abs=4 * rounding(max(shape)))
    single = build_quadratic(list(updates(1, *shape, dtype=torch.float64)), [1.0])
    assert np.isnan(lowest_share(single, 1e-6))


@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (4, 40), (300, 270), (130, 300)])
def test_transformed_updates_are_one_problem_however_they_come(shape: tuple[int, int]) -> None:
    stack = updates(3, *shape, dtype=torch.float64)
    turn = torch.randn(shape[1], shape[1], generator=generator(3), dtype=torch.float64)
    lazy = build_quadratic(list(stack.float()), WEIGHTS, torch.float64, lambda x: x @ turn)
    whole = build_quadratic([delta.double() @ turn for delta in stack.float()], WEIGHTS)
    bound = 4 * rounding(max(shape))
    assert lazy.start == pytest.approx(whole.start, rel=bound, abs=0)
    assert lazy.trace == pytest.approx(whole.trace, rel=bound, abs=0)
    start = whole.gradient_at_start()
    torch.testing.assert_close(lazy.gradient_at_start(), start, rtol=0, atol=bound * float(start.abs().max()))
    # The Hessian is the sum of the Gram matrices.
    x = torch.randn(*shape, generator=generator(4), dtype=torch.float64)
    expected = sum(
        weight * ((x @ delta.mT) @ delta) / delta.square().sum()
        for weight, delta in zip(WEIGHTS, stack.float().double() @ turn, strict=True)
    )
    assert isinstance(expected, Tensor)
    expected = 2 * (expected + start)
    torch.testing.assert_close(gradient(lazy, x), expected, rtol=0, atol=bound * float(expected.abs().max()))
    if lazy.hessian_ii is not None:
        assert torch.equal(lazy.hessian_ii, lazy.hessian_ii.mT)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tile_rows", [1, 3, 5, 100])
def test_tiles_of_rows_give_the_same_steps_and_the_same_path(shape: tuple[int, int], tile_rows: int) -> None:
    quadratic = build_quadratic(list(updates(3, *shape, dtype=torch.float64)), WEIGHTS)
    whole, tiled = solve_adam(quadratic, 60, 1e-3), solve_adam(quadratic, 60, 1e-3, tile_rows=tile_rows)
    torch.testing.assert_close(tiled.displacement_oi, whole.displacement_oi, rtol=0, atol=1e-9)
    assert [point[0] for point in tiled.path] == [point[0] for point in whole.path]
    for one, other in zip(tiled.path, whole.path, strict=True):
        assert one[1:] == pytest.approx(other[1:], rel=1e-9)
    assert tiled.residual == pytest.approx(whole.residual, rel=1e-9)


@pytest.mark.parametrize("shape", [(30, 12), (12, 20), (10, 25), (4, 40)])
@pytest.mark.parametrize("lam", [1e-4, 1.0])
def test_shared_products_give_what_each_objective_gives_by_itself(shape: tuple[int, int], lam: float) -> None:
    """Down to a metric spread of some 1e5; the last shape is factored."""
    stack = list(updates(4, *shape, dtype=torch.float64))
    metric = layer_geometry(stack, WEIGHTS + [1.5], GCWMConfig(rank=3, lam=lam, lambda_mode="relative")).metric
    assert metric is not None
    pair = build_pair(stack, WEIGHTS + [1.5], metric)
    alone = (
        build_quadratic(stack, WEIGHTS + [1.5]),
        build_quadratic(stack, WEIGHTS + [1.5], transform=lambda x: metric.times_power(x, -0.5)),
    )
    # What is shared is whitened afterwards, which can amplify its rounding by the spread of the metric.
    bound = rounding(max(shape), condition=metric.spread())
    for shared, own in zip(pair, alone, strict=True):
        assert shared.start == pytest.approx(own.start, rel=bound, abs=0)
        assert shared.trace == pytest.approx(own.trace, rel=bound, abs=0)
        start, x = own.gradient_at_start(), torch.randn(*shape, generator=generator(5), dtype=torch.float64)
        atol = bound * float(start.abs().max())
        torch.testing.assert_close(shared.gradient_at_start(), start, rtol=0, atol=atol)
        expected = gradient(own, x)
        torch.testing.assert_close(gradient(shared, x), expected, rtol=0, atol=bound * float(expected.abs().max()))


def test_a_metric_too_uneven_for_shared_products_builds_each_objective_by_itself() -> None:
    """At λ = 1e-14 the shared form would lose all digits; the whitened sum of single ones keeps them."""
    stack = list(updates(2, 10, 12, dtype=torch.float64))
    metric = layer_geometry(stack, None, GCWMConfig(rank=3, energy=1.0, lam=1e-14, ridge=0.0)).metric
    assert metric is not None
    assert metric.spread() > 1e10
    _, whitened = build_pair(stack, [1.0, 1.0], metric)
    own = build_quadratic(stack, [1.0, 1.0], transform=lambda x: metric.times_power(x, -0.5))
    assert torch.equal(whitened.gradient_at_start(), own.gradient_at_start())


@pytest.mark.parametrize("shape", [(40, 24), (24, 40)])
def test_split_products_are_near_single_precision_and_far_from_half(shape: tuple[int, int]) -> None:
    quadratic = build_quadratic(list(updates(3, *shape, dtype=torch.float64)), WEIGHTS)
    gradient0 = 2 * quadratic.gradient_at_start()
    d_oi = torch.randn(*shape, generator=generator(1), dtype=torch.float64)
    exact = quadratic.gradient_at(d_oi, torch.empty_like(gradient0)) - gradient0
    single = quadratic.to(torch.float32)
    out = torch.empty(shape)
    found = gradient_of(single, "bf16x3")(d_oi.float(), out).double() - gradient0
    error = float((found - exact).norm() / exact.norm())
    assert quadratic.hessian_ii is not None
    half = d_oi.bfloat16().double() @ quadratic.hessian_ii.bfloat16().double()
    rounded = float((2 * half - exact).norm() / exact.norm())
    assert error < 2**-14 < rounded / 8


def test_faster_products_leave_geometry_alone_and_the_merge_near() -> None:
    """On a CPU tf32 is float32; bf16x3 follows it to a small part of the way that the solver goes."""
    stack = updates(3, 40, 24)
    merges: dict[str, Any] = {
        products: merge_layer(stack, config=GCWMConfig(solver="adam", lr=1e-3, products=products))
        for products in ("float32", "tf32", "bf16x3")
    }
    plain = merges["float32"]
    assert torch.equal(merges["tf32"].merged, plain.merged)
    assert not torch.backends.cuda.matmul.allow_tf32
    split = merges["bf16x3"]
    assert torch.equal(split.pairwise_conflict, plain.pairwise_conflict)
    assert split.alpha == plain.alpha
    assert 0 < (split.merged - plain.merged).norm() < 1e-2 * (plain.merged - stack.sum(0)).norm()
    with pytest.raises(InputError, match="products must be float32 under precision float64"):
        GCWMConfig(products="tf32", precision="float64")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("time", "share"), [(3.0, 1.0), (0.5, 1.0), (30.0, 0.4)])
def test_exponential_filter_against_its_formula(shape: tuple[int, int], time: float, share: float) -> None:
    stack = updates(3, *shape, dtype=torch.float64)
    solution: Any = solve_filtered(build_quadratic(list(stack), WEIGHTS), time, share)
    expected = oracles.wudi_filtered(stack.numpy(), np.array(WEIGHTS), time, share)
    bound = 1e3 * rounding(max(shape))  # eigenvectors of H, by the gaps of its eigenvalues
    np.testing.assert_allclose(stack.sum(0) + solution.displacement_oi, expected, rtol=0, atol=bound)
    assert solution.converged
    assert solution.residual < bound
    assert solution.path[-1][1] == pytest.approx(loss(solution.displacement_oi, stack, WEIGHTS), rel=bound, abs=0)
    assert solution.path[-1][2] == pytest.approx(float(solution.displacement_oi.norm()), rel=bound, abs=0)


def test_exponential_filter_is_gradient_descent_in_small_steps() -> None:
    stack = updates(3, 12, 9, dtype=torch.float64)
    quadratic = build_quadratic(list(stack), WEIGHTS)
    steps, time = 20_000, 2.0
    displacement = torch.zeros(12, 9, dtype=torch.float64)
    rate = time * 9 / quadratic.trace / steps
    out = torch.empty_like(displacement)
    for _ in range(steps):
        displacement -= 0.5 * rate * quadratic.gradient_at(displacement, out)
    found: Any = solve_filtered(quadratic, time, 1.0).displacement_oi
    # Euler's steps err by rate·λ/2 of the way, λ at most tr H.
    atol = rate * quadratic.trace * time * 9 * float(found.norm())
    torch.testing.assert_close(displacement, found, rtol=0, atol=atol)


def test_exponential_filter_between_the_plain_sum_and_the_minimum() -> None:
    stack = updates(3, 12, 9, dtype=torch.float64)
    quadratic = build_quadratic(list(stack), WEIGHTS)
    early: Any = solve_filtered(quadratic, 1e-9, 1.0)
    assert float(early.displacement_oi.norm()) < 1e-7
    late: Any = solve_filtered(quadratic, 1e9, 1.0)
    minimum: Any = solve_exact(quadratic, 1e-12)
    torch.testing.assert_close(late.displacement_oi, minimum.displacement_oi, rtol=0, atol=1e-7)
    lone: Any = solve_filtered(build_quadratic([stack[0]], [1.0]), 3.0, 1.0)
    assert not bool(lone.displacement_oi.any())


def test_exponential_filter_keeps_adapters_factored_and_is_a_setting() -> None:
    thin = low_rank_updates(3, 24, 30, 3, dtype=torch.float64)
    solution = solve_filtered(build_quadratic(thin, [1.0, 1.0, 1.0]), 3.0, 0.6)
    assert isinstance(solution.displacement_oi, LowRank)
    stack = torch.stack([delta.dense() for delta in thin])
    written: Any = solve_filtered(build_quadratic(list(stack), [1.0, 1.0, 1.0]), 3.0, 0.6)
    torch.testing.assert_close(solution.displacement_oi.dense(), dense(written.displacement_oi), rtol=0, atol=1e-8)
    config = GCWMConfig(filter="exponential", filter_time=2.0, filter_share=0.5, precision="float64")
    quadratic = build_quadratic(list(stack), [1.0, 1.0, 1.0])
    chosen: Any = solve(quadratic, config)
    assert torch.equal(dense(chosen.displacement_oi), dense(solve_filtered(quadratic, 2.0, 0.5).displacement_oi))
    plain: Any = solve(quadratic, GCWMConfig(precision="float64"))
    assert torch.equal(dense(plain.displacement_oi), dense(solve_exact(quadratic, 0.3).displacement_oi))
    with pytest.raises(InputError, match="setting filter_share must be"):
        GCWMConfig(filter_share=0)
