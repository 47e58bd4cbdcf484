"""Weighted WUDI, min_M Σ_i ω_i ‖(M − Δ_i)Δ_iᵀ‖_F² / ‖Δ_i‖_F² from M₀ = Σ_i Δ_i (arXiv 2503.08099), as a quadratic.

Written in the displacement D = M − M₀ the objective is f(D) = f₀ + 2⟨G₀, D⟩ + ⟨DH, D⟩ with
H = Σ a_i Δ_iᵀΔ_i, G₀ = Σ a_i (M₀ − Δ_i)Δ_iᵀΔ_i and a_i = ω_i/‖Δ_i‖². H and G₀ are built once, so a step costs one
product. Small steps are not lost beside a large M₀, and G₀ is exactly zero for a single update, where M₀ is already
the minimum. Shape suffixes: o = d_out, i = d_in, k = columns of a factor of H.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.gram import add_gram, mirror
from gcwm_viz.linalg.lowrank import LowRank, Update, accumulate, dense, map_rows, squared_norm, times, vector_norm
from gcwm_viz.linalg.psd import eigh_psd
from gcwm_viz.merging.tiles import tile_rows

LOGGED_POINTS = 25
CONVERGED_RESIDUAL = 1e-4
MINIMUM_MU_REL = 1e-6
"""Proximal weight of the exact minimiser that solvers are compared with: as good as none, yet H may be singular."""


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

    def gradient_at(self, d_oi: Tensor, gradient0_oi: Tensor, out: Tensor) -> Tensor:
        """2(DH + G₀) of any rows of D, ``gradient0_oi`` = 2G₀ of the same rows."""
        if self.factor_ik is not None:
            return torch.addmm(gradient0_oi, d_oi @ self.factor_ik, self.factor_ik.mT, alpha=2, out=out)
        assert self.hessian_ii is not None
        return torch.addmm(gradient0_oi, d_oi, self.hessian_ii, alpha=2, out=out)

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
    minimum: what :func:`lowest_share` says of the same problem; NaN until :func:`solve` has set it.
    start_norm: ‖M₀‖_F in the coordinates of D, set by whoever knows M₀; NaN until then.
    """

    displacement_oi: Tensor
    iterations: int
    residual: float
    converged: bool
    path: tuple[tuple[int, float, float], ...]
    minimum: float = float("nan")
    start_norm: float = float("nan")


def build_quadratic(
    updates: Sequence[Update],
    weights: Sequence[float],
    dtype: torch.dtype | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Quadratic:
    """The WUDI objective of non-zero updates with unnormalised weights ω, in the cheaper of its two forms.

    ``transform``, a linear map of row vectors (… , d_in), makes it the objective of the transformed updates. They and
    their copies in ``dtype`` (the updates' own by default) exist one at a time.
    """
    dtype = dtype or updates[0].dtype

    def view(update: Update) -> Update:
        update = update.to(dtype=dtype)
        return update if transform is None else map_rows(update, transform)

    d_out, d_in = updates[0].shape
    factored = all(isinstance(update, LowRank) for update in updates)
    width = sum(update.rank if isinstance(update, LowRank) else d_out for update in updates)
    if 2 * width <= d_in or (factored and width <= d_in):
        viewed = [view(update) for update in updates]
        scales = [weight / squared_norm(update) for weight, update in zip(weights, viewed, strict=True)]
        return _factored(viewed, scales)
    total_oi = plain_sum(updates, dtype)
    if transform is not None:
        total_oi = transform(total_oi)
    hessian = total_oi.new_zeros(d_in, d_in)
    gradient = torch.zeros_like(total_oi)
    start = 0.0
    for update, weight in zip(updates, weights, strict=True):
        delta = dense(view(update))
        scale = weight / squared_norm(delta)
        others = total_oi - delta
        # Scaled before they are added: opposed updates then cancel exactly, where a fused addition leaves rounding.
        if 2 * d_out <= d_in:  # (XΔᵀ)Δ is then no dearer than X(ΔᵀΔ), and needs no second d_in × d_in matrix
            overlap = others @ delta.mT
            start += scale * vector_norm(overlap) ** 2
            gradient.add_((overlap @ delta).mul_(scale))
            add_gram(hessian, delta, scale)
        else:
            gram = mirror(add_gram(total_oi.new_zeros(d_in, d_in), delta))
            pull = others @ gram
            start += scale * float(torch.sum(pull * others, dtype=torch.float64))
            gradient.add_(pull.mul_(scale))
            hessian.add_(gram, alpha=scale)
    mirror(hessian)
    return Quadratic(start, float(hessian.diagonal().double().sum()), hessian_ii=hessian, gradient_oi=gradient)


def solve(quadratic: Quadratic, config: GCWMConfig) -> Solution:
    """The displacement, in ``config.precision``, by the configured solver.

    Adam's many steps run in that precision; the one solve of the closed form in the quadratic's own.
    """
    work = torch.float64 if config.precision == "float64" else torch.float32
    if config.solver == "adam":
        rows = tile_rows(quadratic.gradient_at_start().shape[1] * work.itemsize)
        solution = solve_adam(quadratic.to(work), config.iters, config.lr, tile_rows=rows)
    else:
        solution = solve_exact(quadratic, config.mu_rel)
    return replace(
        solution, displacement_oi=solution.displacement_oi.to(work), minimum=lowest_share(quadratic, MINIMUM_MU_REL)
    )


def lowest_share(quadratic: Quadratic, mu_rel: float) -> float:
    """f at the minimiser of f(D) + μ‖D‖² over f₀, in [0, 1]; near 0 = almost all can be solved away.

    μ = mu_rel · tr H / d_in. NaN where f₀ = 0: the plain sum is a minimum already.
    """
    if not quadratic.start > 0:
        return float("nan")
    if quadratic.factor_ik is not None and quadratic.load_ok is not None:
        # D = −W(PᵀP + μI)⁻¹Pᵀ, so with E = −W(PᵀP + μI)⁻¹ the value is f₀ + 2⟨WK, E⟩ + ⟨EKK, E⟩, K = PᵀP.
        gram_kk = quadratic.factor_ik.mT @ quadratic.factor_ik
        mu = mu_rel * quadratic.trace / quadratic.factor_ik.shape[0]
        share_ko = _solve_shifted(gram_kk.clone(), mu, quadratic.load_ok.mT)
        bent_ko = gram_kk @ share_ko
        slope = torch.sum(bent_ko * (bent_ko - 2 * quadratic.load_ok.mT), dtype=torch.float64)
    else:
        assert quadratic.hessian_ii is not None
        assert quadratic.gradient_oi is not None
        mu = mu_rel * quadratic.trace / quadratic.hessian_ii.shape[0]
        gradient_io = quadratic.gradient_oi.mT
        minus_d_io = _solve_shifted(quadratic.hessian_ii.clone(), mu, gradient_io)
        # (H + μI)D = −G₀ᵀ gives ⟨DH, D⟩ = −⟨G₀, D⟩ − μ‖D‖².
        slope = -torch.sum(gradient_io * minus_d_io, dtype=torch.float64) - mu * vector_norm(minus_d_io) ** 2
    return max(0.0, 1 + float(slope) / quadratic.start)


def solve_adam(
    quadratic: Quadratic,
    iters: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    tile_rows: int | None = None,
) -> Solution:
    """``iters`` Adam steps on the gradient 2(DH + G₀), the paper's solver, without automatic differentiation.

    Rows of D do not see each other, so ``tile_rows`` at a time (all by default) give the same steps in less memory.
    """
    gradient0 = quadratic.gradient_at_start()
    d_out = gradient0.shape[0]
    tile_rows = min(tile_rows or d_out, d_out)
    displacement = torch.zeros_like(gradient0)
    path = _Path(quadratic.start, iters)
    for first in range(0, d_out, tile_rows):
        rows = slice(first, first + tile_rows)
        _adam_rows(quadratic, 2 * gradient0[rows], displacement[rows], path, lr, betas, eps)
    residual = path.residual()
    return Solution(displacement, iters, residual, residual <= CONVERGED_RESIDUAL, path.points())


def _adam_rows(
    quadratic: Quadratic,
    gradient0: Tensor,
    displacement: Tensor,
    path: "_Path",
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Adam on some rows of D, in place from zero; ``gradient0`` is the gradient of these rows at D = 0."""
    mean, square = torch.zeros_like(displacement), torch.zeros_like(displacement)
    gradient, root = torch.empty_like(displacement), torch.empty_like(displacement)
    for iteration in range(1, path.iters + 1):
        quadratic.gradient_at(displacement, gradient0, out=gradient)
        path.log(iteration - 1, displacement, gradient, gradient0)
        mean.lerp_(gradient, 1 - betas[0])
        square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
        # m̂ / (√v̂ + ε) with both bias corrections drawn into the step length.
        bias = (1 - betas[1] ** iteration) ** 0.5
        torch.sqrt(square, out=root).add_(eps * bias)
        displacement.addcdiv_(mean, root, value=-lr * bias / (1 - betas[0] ** iteration))
    quadratic.gradient_at(displacement, gradient0, out=gradient)
    path.log(path.iters, displacement, gradient, gradient0)


class _Path:
    """Objective and ‖D‖ along the way, summed over tiles of rows."""

    def __init__(self, start: float, iters: int) -> None:
        self.start, self.iters = start, iters
        stride = max(1, -(-iters // LOGGED_POINTS))
        self._slopes = dict.fromkeys([*range(0, iters, stride), iters], 0.0)
        self._squares = dict(self._slopes)
        self._gradient_start = self._gradient_end = 0.0

    def log(self, iteration: int, displacement: Tensor, gradient: Tensor, gradient0: Tensor) -> None:
        if iteration in self._slopes:
            slope = torch.sum((gradient0 + gradient).mul_(displacement), dtype=torch.float64)
            self._slopes[iteration] += 0.5 * float(slope)
            self._squares[iteration] += vector_norm(displacement) ** 2
        if iteration == 0:
            self._gradient_start += vector_norm(gradient0) ** 2
        if iteration == self.iters:
            self._gradient_end += vector_norm(gradient) ** 2

    def points(self) -> tuple[tuple[int, float, float], ...]:
        return tuple((at, self.start + slope, self._squares[at] ** 0.5) for at, slope in self._slopes.items())

    def residual(self) -> float:
        return (self._gradient_end / self._gradient_start) ** 0.5 if self._gradient_start > 0 else 0.0


def solve_exact(quadratic: Quadratic, mu_rel: float) -> Solution:
    """The minimiser of f(D) + μ‖D‖² with μ = mu_rel · tr H / d_in: D = −G₀ (H + μI)^{-1}, one Cholesky solve.

    mu_rel → ∞ gives D = 0, the plain sum; → 0 the pure WUDI minimiser. The factored form solves the k × k system of
    (PᵀP + μI) instead. The logged objective is f without the proximal term.
    """
    gradient0 = 2 * quadratic.gradient_at_start()
    scale0 = vector_norm(gradient0)
    if scale0 == 0:
        return Solution(gradient0.zero_(), 0, 0.0, True, ((0, quadratic.start, 0.0),))
    mu = mu_rel * quadratic.trace / gradient0.shape[1]
    if quadratic.factor_ik is not None and quadratic.load_ok is not None:
        factor_ik = quadratic.factor_ik
        displacement = (_solve_shifted(factor_ik.mT @ factor_ik, mu, quadratic.load_ok.mT).mT @ factor_ik.mT).neg_()
    else:
        assert quadratic.hessian_ii is not None
        displacement = _solve_shifted(quadratic.hessian_ii.clone(), mu, gradient0.mT).mT.contiguous().mul_(-0.5)
    gradient = quadratic.gradient_at(displacement, gradient0, out=torch.empty_like(gradient0))
    slope = 0.5 * float(torch.sum((gradient0 + gradient).mul_(displacement), dtype=torch.float64))
    residual = vector_norm(gradient.add_(displacement, alpha=2 * mu)) / scale0
    path = ((0, quadratic.start, 0.0), (1, quadratic.start + slope, vector_norm(displacement)))
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


def plain_sum(updates: Sequence[Update], dtype: torch.dtype | None = None) -> Tensor:
    """M₀ = Σ_i Δ_i (unweighted), where every solver starts; in ``dtype``, the updates' own by default."""
    first = updates[0]
    total = torch.zeros(tuple(first.shape), dtype=dtype or first.dtype, device=first.device)
    for update in updates:
        accumulate(update, total)
    return total


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
