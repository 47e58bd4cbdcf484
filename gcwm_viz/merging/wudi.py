"""Weighted WUDI, min_M Σ_i ω_i ‖(M − Δ_i)Δ_iᵀ‖_F² / ‖Δ_i‖_F² from M₀ = Σ_i Δ_i (arXiv 2503.08099), as a quadratic.

Written in the displacement D = M − M₀ the objective is f(D) = f₀ + 2⟨G₀, D⟩ + ⟨DH, D⟩ with
H = Σ a_i Δ_iᵀΔ_i, G₀ = Σ a_i (M₀ − Δ_i)Δ_iᵀΔ_i and a_i = ω_i/‖Δ_i‖². H and G₀ are built once, so a step costs one
product. Small steps are not lost beside a large M₀, and G₀ is exactly zero for a single update, where M₀ is already
the minimum. Shape suffixes: o = d_out, i = d_in, k = columns of a factor of H.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank, Update, accumulate, dense, squared_norm, times, vector_norm
from gcwm_viz.linalg.psd import eigh_psd

LOGGED_POINTS = 25
CONVERGED_RESIDUAL = 1e-4


@dataclass(frozen=True)
class Quadratic:
    """f(D) = f₀ + 2⟨G₀, D⟩ + ⟨DH, D⟩ with H (d_in, d_in) dense, or factored as PPᵀ with G₀ = WPᵀ.

    ``factor_ik`` (d_in, k) and ``load_ok`` (d_out, k) are set in the factored form, ``hessian_ii`` and
    ``gradient_oi`` in the dense one. ``trace`` = tr H.
    """

    start: float
    trace: float
    hessian_ii: Tensor | None = None
    gradient_oi: Tensor | None = None
    factor_ik: Tensor | None = None
    load_ok: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Quadratic":
        def cast(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(dtype)

        return replace(
            self,
            hessian_ii=cast(self.hessian_ii),
            gradient_oi=cast(self.gradient_oi),
            factor_ik=cast(self.factor_ik),
            load_ok=cast(self.load_ok),
        )

    def times_hessian(self, d_oi: Tensor) -> Tensor:
        if self.factor_ik is not None:
            return (d_oi @ self.factor_ik) @ self.factor_ik.mT
        assert self.hessian_ii is not None
        return d_oi @ self.hessian_ii

    def gradient_at_start(self) -> Tensor:
        """G₀, half the gradient at D = 0, dense (d_out, d_in)."""
        if self.factor_ik is not None:
            assert self.load_ok is not None
            return self.load_ok @ self.factor_ik.mT
        assert self.gradient_oi is not None
        return self.gradient_oi


@dataclass(frozen=True)
class Solution:
    """Displacement D (d_out, d_in) from the plain sum and how the solver got there.

    path: (iteration, objective, ‖D‖_F) at logged iterations, first and last included. residual: relative norm of the
    gradient of what was minimised, 0 = stationary. converged: residual ≤ :data:`CONVERGED_RESIDUAL`.
    """

    displacement_oi: Tensor
    iterations: int
    residual: float
    converged: bool
    path: tuple[tuple[int, float, float], ...]


def build_quadratic(updates: Sequence[Update], weights: Sequence[float]) -> Quadratic:
    """The WUDI objective of non-zero updates with unnormalised weights ω, in the cheaper of its two forms."""
    d_out, d_in = updates[0].shape
    scales = [weight / squared_norm(update) for weight, update in zip(weights, updates, strict=True)]
    factored = all(isinstance(update, LowRank) for update in updates)
    width = sum(update.rank if isinstance(update, LowRank) else d_out for update in updates)
    if 2 * width <= d_in or (factored and width <= d_in):
        return _factored(updates, scales)
    total_oi = plain_sum(updates)
    hessian = total_oi.new_zeros(d_in, d_in)
    gradient = torch.zeros_like(total_oi)
    start = 0.0
    for update, scale in zip(updates, scales, strict=True):
        delta = dense(update)
        others = total_oi - delta
        start += scale * _overlap_energy(others, delta)
        gram = delta.mT @ delta
        hessian.add_(gram, alpha=scale)
        gradient.addmm_(others, gram, alpha=scale)
    return Quadratic(start, float(hessian.diagonal().double().sum()), hessian_ii=hessian, gradient_oi=gradient)


def solve(quadratic: Quadratic, config: GCWMConfig) -> Solution:
    """The displacement, in ``config.precision``, by the configured solver.

    Adam's many steps run in that precision; the one solve of the closed form in the quadratic's own.
    """
    work = torch.float64 if config.precision == "float64" else torch.float32
    if config.solver == "adam":
        return solve_adam(quadratic.to(work), config.iters, config.lr)
    solution = solve_exact(quadratic, config.mu_rel)
    return replace(solution, displacement_oi=solution.displacement_oi.to(work))


def solve_adam(
    quadratic: Quadratic, iters: int, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> Solution:
    """``iters`` Adam steps on the gradient 2(DH + G₀), the paper's solver, without automatic differentiation."""
    gradient0 = 2 * quadratic.gradient_at_start()
    displacement = torch.zeros_like(gradient0)
    first, second = torch.zeros_like(gradient0), torch.zeros_like(gradient0)
    stride = max(1, -(-iters // LOGGED_POINTS))
    scale0 = vector_norm(gradient0)
    path = []
    for iteration in range(1, iters + 1):
        bend = 2 * quadratic.times_hessian(displacement)
        if (iteration - 1) % stride == 0:
            path.append((iteration - 1, *_objective(quadratic, gradient0, bend, displacement)))
        gradient = bend.add_(gradient0)
        first.lerp_(gradient, 1 - betas[0])
        second.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        denominator = second.sqrt().div_((1 - betas[1] ** iteration) ** 0.5).add_(eps)
        displacement.addcdiv_(first, denominator, value=-lr / (1 - betas[0] ** iteration))
    bend = 2 * quadratic.times_hessian(displacement)
    path.append((iters, *_objective(quadratic, gradient0, bend, displacement)))
    residual = vector_norm(bend + gradient0) / scale0 if scale0 > 0 else 0.0
    return Solution(displacement, iters, residual, residual <= CONVERGED_RESIDUAL, tuple(path))


def solve_exact(quadratic: Quadratic, mu_rel: float) -> Solution:
    """The minimiser of f(D) + μ‖D‖² with μ = mu_rel · tr H / d_in: D = −G₀ (H + μI)^{-1}, one Cholesky solve.

    mu_rel → ∞ gives D = 0, the plain sum; → 0 the pure WUDI minimiser. The factored form solves the k × k system of
    (PᵀP + μI) instead. The logged objective is f without the proximal term.
    """
    gradient0 = 2 * quadratic.gradient_at_start()
    scale0 = vector_norm(gradient0)
    zero = torch.zeros_like(gradient0)
    if scale0 == 0:
        return Solution(zero, 0, 0.0, True, ((0, quadratic.start, 0.0),))
    d_in = gradient0.shape[1]
    mu = mu_rel * quadratic.trace / d_in
    if quadratic.factor_ik is not None and quadratic.load_ok is not None:
        factor_ik = quadratic.factor_ik
        displacement = -(_solve_shifted(factor_ik.mT @ factor_ik, mu, quadratic.load_ok.mT).mT @ factor_ik.mT)
    else:
        assert quadratic.hessian_ii is not None
        displacement = -0.5 * _solve_shifted(quadratic.hessian_ii.clone(), mu, gradient0.mT).mT.contiguous()
    bend = 2 * quadratic.times_hessian(displacement)
    residual = vector_norm(bend + gradient0 + 2 * mu * displacement) / scale0
    path = (
        (0, quadratic.start, 0.0),
        (1, *_objective(quadratic, gradient0, bend, displacement)),
    )
    return Solution(displacement, 1, residual, residual <= CONVERGED_RESIDUAL, path)


def _factored(updates: Sequence[Update], scales: Sequence[float]) -> Quadratic:
    """H = PPᵀ from factors P_i P_iᵀ = a_i Δ_iᵀΔ_i, no product of two large sides."""
    factors = []
    for update, scale in zip(updates, scales, strict=True):
        if isinstance(update, LowRank):
            _, triangle = torch.linalg.qr(update.left_or, mode="r")
            factors.append(scale**0.5 * (triangle @ update.right_ri).mT)
        else:
            factors.append(scale**0.5 * update.mT)
    loads, start = [], 0.0
    for i, factor in enumerate(factors):
        load = torch.zeros(updates[0].shape[0], factor.shape[1], dtype=factor.dtype, device=factor.device)
        for j, other in enumerate(updates):
            if j != i:
                load += times(other, factor)
        loads.append(load)
        start += vector_norm(load) ** 2
    factor_ik = torch.cat(factors, dim=1)
    trace = vector_norm(factor_ik) ** 2
    return Quadratic(start, trace, factor_ik=factor_ik, load_ok=torch.cat(loads, dim=1))


def plain_sum(updates: Sequence[Update]) -> Tensor:
    """M₀ = Σ_i Δ_i (unweighted), where every solver starts."""
    first = updates[0]
    total = torch.zeros(tuple(first.shape), dtype=first.dtype, device=first.device)
    for update in updates:
        accumulate(update, total)
    return total


def _overlap_energy(others_oi: Tensor, delta_oi: Tensor) -> float:
    """‖(M₀ − Δ_i)Δ_iᵀ‖_F²."""
    d_out, d_in = delta_oi.shape
    if d_out <= d_in:
        return vector_norm(others_oi @ delta_oi.mT) ** 2
    left, right = others_oi.mT @ others_oi, delta_oi.mT @ delta_oi
    return float(torch.sum(left * right, dtype=torch.float64))


def _objective(quadratic: Quadratic, gradient0: Tensor, bend: Tensor, displacement: Tensor) -> tuple[float, float]:
    slope = torch.sum((gradient0 + 0.5 * bend) * displacement, dtype=torch.float64)
    return quadratic.start + float(slope), vector_norm(displacement)


def _solve_shifted(gram_nn: Tensor, mu: float, rhs_nk: Tensor) -> Tensor:
    """(G + μI)^{-1} R for PSD G, which is overwritten, and R in the range of G."""
    gram_nn.diagonal().add_(mu)
    root, failed = torch.linalg.cholesky_ex(gram_nn)
    if not failed:
        return torch.cholesky_solve(rhs_nk, root)
    # μ is lost in the rounding of a singular G. R has no part in its null directions, so they are left out.
    values, vectors = eigh_psd(gram_nn)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return vectors[:, kept] @ ((vectors[:, kept].mT @ rhs_nk) / values[kept, None])
