"""The two solvers of the WUDI quadratic: Adam as in the paper, and the closed form with a proximal weight."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.optim.adam import adam

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import LowRank, Update, vector_norm
from gcwm_viz.linalg.psd import eigh_psd
from gcwm_viz.merging.products import Gradient, gradient_of
from gcwm_viz.merging.quadratic import Quadratic
from gcwm_viz.merging.step import work_dtype
from gcwm_viz.merging.tiles import tile_rows

LOGGED_POINTS = 25
CONVERGED_RESIDUAL = 1e-4
CPU_ROWS = 1024
"""Rows that a CPU takes through all steps of Adam: fewer slow the product down, more only cost memory."""
MINIMUM_MU_REL = 1e-6
"""Proximal weight of the exact minimiser that solvers are compared with: negligible, but it allows a singular H."""


@dataclass(frozen=True)
class Solution:
    """Displacement D (d_out, d_in) from the plain sum, and the solver's path to it.

    D is factored where all updates are and the solver keeps it in their span, as the closed form does: its right
    factor is then that of the sum of updates. Adam scales single entries and leaves the span.

    path: (iteration, objective, ‖D‖_F) at logged iterations, first and last included. residual: relative norm of the
    gradient of what was minimised, 0 = stationary. converged: residual ≤ :data:`CONVERGED_RESIDUAL`.
    minimum: :func:`lowest_share` of the same problem; NaN until :func:`solve` has set it.
    start_norm: ‖M₀‖_F in the coordinates of D, set by the caller, who knows M₀; NaN until then.
    """

    displacement_oi: Update
    iterations: int
    residual: float
    converged: bool
    path: tuple[tuple[int, float, float], ...]
    minimum: float = float("nan")
    start_norm: float = float("nan")


def solve(quadratic: Quadratic, config: GCWMConfig) -> Solution:
    """The displacement, in ``config.precision``, by the configured solver.

    Adam's steps run in that precision, the one solve of the closed form in the quadratic's.
    """
    work = work_dtype(config)
    if config.solver == "adam":
        cast = quadratic.to(work)
        rows = _rows_at_a_time(cast.gradient_at_start())
        solution = solve_adam(cast, config.iters, config.lr, tile_rows=rows, products=config.products)
    else:
        solution = _solve_closed(quadratic, config)
    return replace(
        solution,
        displacement_oi=solution.displacement_oi.to(dtype=work),
        minimum=lowest_share(quadratic, MINIMUM_MU_REL),
    )


def _solve_closed(quadratic: Quadratic, config: GCWMConfig) -> Solution:
    if config.filter == "exponential":
        return solve_filtered(quadratic, config.filter_time, config.filter_share)
    return solve_exact(quadratic, config.mu_rel)


def _rows_at_a_time(like_oi: Tensor) -> int | None:
    limit = tile_rows(like_oi.shape[1] * like_oi.itemsize)
    if like_oi.device.type != "cpu":
        return limit
    return CPU_ROWS if limit is None else min(limit, CPU_ROWS)


def lowest_share(quadratic: Quadratic, mu_rel: float) -> float:
    """f at the minimiser of f(D) + μ‖D‖² over f₀, in [0, 1]; near 0 = almost all interference can be removed.

    μ = mu_rel · tr H / d_in. NaN where f₀ = 0: the plain sum is a minimum already.
    """
    if not quadratic.start > 0:
        return float("nan")
    if quadratic.factor_ik is not None and quadratic.gradient_ok is not None:
        # D = −W(PᵀP + μI)⁻¹Pᵀ, so with E = −W(PᵀP + μI)⁻¹ the value is f₀ + 2⟨WK, E⟩ + ⟨EKK, E⟩, K = PᵀP.
        gram_kk = quadratic.factor_ik.mT @ quadratic.factor_ik
        mu = mu_rel * quadratic.trace / quadratic.factor_ik.shape[0]
        minus_dp_ko = gram_kk @ _solve_shifted(gram_kk.clone(), mu, quadratic.gradient_ok.mT)
        change = torch.sum(minus_dp_ko * (minus_dp_ko - 2 * quadratic.gradient_ok.mT), dtype=torch.float64)
    else:
        assert quadratic.hessian_ii is not None
        assert quadratic.gradient_oi is not None
        mu = mu_rel * quadratic.trace / quadratic.hessian_ii.shape[0]
        gradient_io = quadratic.gradient_oi.mT
        minus_d_io = _solve_shifted(quadratic.hessian_ii.clone(), mu, gradient_io)
        # (H + μI)D = −G₀ᵀ gives ⟨DH, D⟩ = −⟨G₀, D⟩ − μ‖D‖².
        change = -torch.sum(gradient_io * minus_d_io, dtype=torch.float64) - mu * vector_norm(minus_d_io) ** 2
    return max(0.0, 1 + float(change) / quadratic.start)


def solve_adam(
    quadratic: Quadratic,
    iters: int,
    lr: float,
    tile_rows: int | None = None,
    products: str = "float32",
) -> Solution:
    """``iters`` Adam steps on the gradient 2(DH + G₀), the paper's solver, without automatic differentiation.

    Rows of D are independent, so ``tile_rows`` at a time (all by default) give the same steps in less memory.
    """
    gradient0 = quadratic.gradient_at_start()
    d_out = gradient0.shape[0]
    tile_rows = min(tile_rows or d_out, d_out)
    displacement = torch.zeros_like(gradient0)
    path = _Path(quadratic.start, iters)
    for first in range(0, d_out, tile_rows):
        rows = slice(first, first + tile_rows)
        gradient_at = gradient_of(quadratic.rows(rows), products)
        _adam_rows(gradient_at, 2 * gradient0[rows], displacement[rows], path, lr)
    residual = path.residual()
    return Solution(displacement, iters, residual, residual <= CONVERGED_RESIDUAL, path.points())


def _adam_rows(gradient_at: Gradient, gradient0: Tensor, displacement: Tensor, path: "_Path", lr: float) -> None:
    """Adam on some rows of D, in place from zero; ``gradient0`` is the gradient of these rows at D = 0."""
    mean, square = torch.zeros_like(displacement), torch.zeros_like(displacement)
    gradient = gradient0.clone()
    count = torch.zeros((), dtype=torch.float32, device=displacement.device)
    for iteration in range(path.iters):
        if iteration > 0:
            gradient_at(displacement, gradient)
        path.log(iteration, displacement, gradient, gradient0)
        adam(
            [displacement],
            [gradient],
            [mean],
            [square],
            [],
            [count],
            fused=True,
            amsgrad=False,
            beta1=0.9,  # PyTorch's defaults, as in the paper
            beta2=0.999,
            lr=lr,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
    gradient_at(displacement, gradient)
    path.log(path.iters, displacement, gradient, gradient0)


class _Path:
    """Objective and ‖D‖ along the iterations, summed over rows in float64."""

    def __init__(self, start: float, iters: int) -> None:
        self.start, self.iters = start, iters
        stride = max(1, -(-iters // LOGGED_POINTS))
        self._changes = dict.fromkeys([*range(0, iters, stride), iters], 0.0)
        self._squares = dict(self._changes)
        self._gradient_start = self._gradient_end = 0.0

    def log(self, iteration: int, displacement: Tensor, gradient: Tensor, gradient0: Tensor) -> None:
        if iteration in self._changes:
            change_o = torch.sum((gradient0 + gradient).mul_(displacement), dim=1)
            self._changes[iteration] += 0.5 * float(change_o.cpu().double().sum())
            norm_o = torch.linalg.vector_norm(displacement, dim=1)
            self._squares[iteration] += float(norm_o.cpu().double().square().sum())
        if iteration == 0:
            self._gradient_start += vector_norm(gradient0) ** 2
        if iteration == self.iters:
            self._gradient_end += vector_norm(gradient) ** 2

    def points(self) -> tuple[tuple[int, float, float], ...]:
        return tuple((at, self.start + change, self._squares[at] ** 0.5) for at, change in self._changes.items())

    def residual(self) -> float:
        return (self._gradient_end / self._gradient_start) ** 0.5 if self._gradient_start > 0 else 0.0


def solve_exact(quadratic: Quadratic, mu_rel: float) -> Solution:
    """The minimiser of f(D) + μ‖D‖² with μ = mu_rel · tr H / d_in: D = −G₀ (H + μI)^{-1}, one Cholesky solve.

    mu_rel → ∞ gives D = 0, the plain sum; → 0 the pure WUDI minimiser. The factored form solves the k × k system of
    PᵀP + μI instead. The logged objective is f without the proximal term.
    """
    if quadratic.factor_ik is not None:
        return _solve_factored(quadratic, mu_rel)
    gradient0 = 2 * quadratic.gradient_at_start()
    scale0 = vector_norm(gradient0)
    if scale0 == 0:
        return Solution(gradient0.zero_(), 0, 0.0, True, ((0, quadratic.start, 0.0),))
    mu = mu_rel * quadratic.trace / gradient0.shape[1]
    assert quadratic.hessian_ii is not None
    displacement = _solve_shifted(quadratic.hessian_ii.clone(), mu, gradient0.mT).mT.contiguous().mul_(-0.5)
    gradient = quadratic.gradient_at(displacement, out=torch.empty_like(gradient0))
    change = 0.5 * float(torch.sum((gradient0 + gradient).mul_(displacement), dtype=torch.float64))
    residual = vector_norm(gradient.add_(displacement, alpha=2 * mu)) / scale0
    path = ((0, quadratic.start, 0.0), (1, quadratic.start + change, vector_norm(displacement)))
    return Solution(displacement, 1, residual, residual <= CONVERGED_RESIDUAL, path)


def _solve_factored(quadratic: Quadratic, mu_rel: float) -> Solution:
    """D = EPᵀ with E = −W(PᵀP + μI)⁻¹; every norm is taken in the k directions of P, and nothing large is formed."""
    assert quadratic.factor_ik is not None
    assert quadratic.gradient_ok is not None
    factor_ik, gradient_ok = quadratic.factor_ik, quadratic.gradient_ok
    gram_kk = factor_ik.mT @ factor_ik

    norm = partial(_norm_by_gram, gram_kk=gram_kk)
    mu = mu_rel * quadratic.trace / factor_ik.shape[0]
    scale0 = norm(gradient_ok)
    e_ok = torch.zeros_like(gradient_ok)
    if scale0 > 0:
        e_ok = _solve_shifted(gram_kk.clone(), mu, gradient_ok.mT).mT.neg()
    displacement: Update
    if quadratic.mix_kr is not None and quadratic.right_ri is not None:
        displacement = LowRank(e_ok @ quadratic.mix_kr, quadratic.right_ri)
    else:
        displacement = e_ok @ factor_ik.mT
    if scale0 == 0:
        return Solution(displacement, 0, 0.0, True, ((0, quadratic.start, 0.0),))
    dp_ok = e_ok @ gram_kk
    change = float(torch.sum(dp_ok * (2 * gradient_ok + dp_ok), dtype=torch.float64))
    residual = norm(dp_ok + gradient_ok + mu * e_ok) / scale0
    path = ((0, quadratic.start, 0.0), (1, quadratic.start + change, norm(e_ok)))
    return Solution(displacement, 1, residual, residual <= CONVERGED_RESIDUAL, path)


def solve_filtered(quadratic: Quadratic, time: float, share: float) -> Solution:
    """D = −G₀ Q diag(φ/λ) Qᵀ with H = QΛQᵀ and φ = 1 − exp(−λt) on the leading ``share`` of H's eigenvectors, else 0.

    Where the flow dD/dt = −(DH + G₀) from D = 0 is after time t (arXiv 2606.07289). t = ``time`` · d_in / tr H, so that
    1/``time`` is to be compared with mu_rel. The share is of the eigenvectors above rounding, which adapters and their
    matrices have in common. t → ∞ and share 1 give the minimiser. residual: of DH = −G₀ Q diag(φ) Qᵀ, over ‖G₀‖.
    """
    factored = quadratic.factor_ik is not None and quadratic.gradient_ok is not None
    if factored:
        assert quadratic.factor_ik is not None
        assert quadratic.gradient_ok is not None
        # H = PPᵀ has the eigenvalues of K = PᵀP = ZΛZᵀ, and G₀ = WPᵀ gives D = −W Z diag(φ/λ) Zᵀ Pᵀ.
        gradient_ok, gram_kk = quadratic.gradient_ok, quadratic.factor_ik.mT @ quadratic.factor_ik
        d_in = quadratic.factor_ik.shape[0]
    else:
        assert quadratic.gradient_oi is not None
        assert quadratic.hessian_ii is not None
        gradient_ok, gram_kk = quadratic.gradient_oi, quadratic.hessian_ii
        d_in = gram_kk.shape[0]

    def norm(x_ok: Tensor) -> float:
        """‖X‖_F, or ‖XPᵀ‖_F in the factored form."""
        return _norm_by_gram(x_ok, gram_kk) if factored else vector_norm(x_ok)

    def form(x_ok: Tensor) -> Update:
        if not factored:
            return x_ok
        if quadratic.mix_kr is not None and quadratic.right_ri is not None:
            return LowRank(x_ok @ quadratic.mix_kr, quadratic.right_ri)
        assert quadratic.factor_ik is not None
        return x_ok @ quadratic.factor_ik.mT

    scale0 = norm(gradient_ok)
    if scale0 == 0:
        return Solution(form(torch.zeros_like(gradient_ok)), 0, 0.0, True, ((0, quadratic.start, 0.0),))
    values_k, vectors_kk = eigh_psd(gram_kk)
    significant = int((values_k > len(values_k) * torch.finfo(values_k.dtype).eps * values_k[-1]).sum())
    taken = max(1, round(share * significant))
    values_k, vectors_kk = values_k[-taken:], vectors_kk[:, -taken:]
    phi_k = -torch.expm1(-values_k * (time * d_in / quadratic.trace))
    along_ok = gradient_ok @ vectors_kk
    e_ok = -(along_ok * (phi_k / values_k)) @ vectors_kk.mT
    dh_ok = e_ok @ gram_kk
    change = float(torch.sum((dh_ok if factored else e_ok) * (2 * gradient_ok + dh_ok), dtype=torch.float64))
    residual = norm(dh_ok + (along_ok * phi_k) @ vectors_kk.mT) / scale0
    path = ((0, quadratic.start, 0.0), (1, quadratic.start + change, norm(e_ok)))
    return Solution(form(e_ok), 1, residual, residual <= CONVERGED_RESIDUAL, path)


def _norm_by_gram(x_ok: Tensor, gram_kk: Tensor) -> float:
    """‖XPᵀ‖_F from X and PᵀP."""
    squared = max(0.0, float(torch.sum((x_ok @ gram_kk).mul_(x_ok), dtype=torch.float64)))
    return float(squared**0.5)


def _solve_shifted(gram_nn: Tensor, mu: float, rhs_nk: Tensor) -> Tensor:
    """(G + μI)^{-1} R for PSD G, which is overwritten, and R in the range of G."""
    rounding = len(gram_nn) * torch.finfo(gram_nn.dtype).eps
    # A smaller μ is below the rounding of a singular G, for which Cholesky may or may not fail.
    definite = mu > rounding * float(gram_nn.diagonal().sum())
    gram_nn.diagonal().add_(mu)
    if definite:
        root, failed = torch.linalg.cholesky_ex(gram_nn)
        if not failed:
            return torch.cholesky_solve(rhs_nk, root)
    # R has no part in the null directions of G, so they are left out.
    values, vectors = eigh_psd(gram_nn)
    significant = values > rounding * values[-1]
    vectors = vectors[:, significant]
    return vectors @ ((vectors.mT @ rhs_nk) / values[significant, None])
