"""Weighted WUDI, min_M Σ_i ω_i ‖(M − Δ_i)Δ_iᵀ‖_F² / ‖Δ_i‖_F² from M₀ = Σ_i Δ_i (arXiv 2503.08099), as a quadratic.

Written in the displacement D = M − M₀ the objective is f(D) = f₀ + 2⟨G₀, D⟩ + ⟨DH, D⟩ with
H = Σ a_i Δ_iᵀΔ_i, G₀ = Σ a_i (M₀ − Δ_i)Δ_iᵀΔ_i and a_i = ω_i/‖Δ_i‖². H and G₀ are built once, so a step of a solver
costs one product. Small steps are not lost in the rounding of M₀, and G₀ is exactly zero for a single update, where M₀
is already the minimum. Shape suffixes: o = d_out, i = d_in, u = dimension of the metric's basis, k = columns of a
factor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from gcwm_viz.geometry.metric import Metric
from gcwm_viz.linalg.gram import add_gram, mirror
from gcwm_viz.linalg.lowrank import (
    LowRank,
    Update,
    accumulate,
    dense,
    map_rows,
    squared_norm,
    stacked,
    times,
    vector_norm,
)

SHARED_ACCURACY = 1e-9
"""Largest relative error that shared products may cause in the whitened quadratic, by the metric's spread."""


@dataclass(frozen=True)
class Quadratic:
    """f(D) = f₀ + 2⟨G₀, D⟩ + ⟨DH, D⟩ with H (d_in, d_in) dense, or factored as PPᵀ with G₀ = WPᵀ.

    ``factor_ik`` P (d_in, k) and ``gradient_ok`` W (d_out, k) are set in the factored form, ``hessian_ii`` and
    ``gradient_oi`` in the dense one. ``trace`` = tr H. ``mix_kr`` and ``right_ri`` are set where every update is
    factored: Pᵀ = mix · right, where ``right_ri`` stacks the right factors of the updates.
    """

    start: float
    trace: float
    hessian_ii: Tensor | None = None
    gradient_oi: Tensor | None = None
    factor_ik: Tensor | None = None
    gradient_ok: Tensor | None = None
    mix_kr: Tensor | None = None
    right_ri: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Quadratic":
        def cast(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(dtype)

        return replace(
            self,
            hessian_ii=cast(self.hessian_ii),
            gradient_oi=cast(self.gradient_oi),
            factor_ik=cast(self.factor_ik),
            gradient_ok=cast(self.gradient_ok),
            mix_kr=cast(self.mix_kr),
            right_ri=cast(self.right_ri),
        )

    def rows(self, rows: slice) -> "Quadratic":
        """The same objective for some rows of D, which are independent of the others; ``start`` stays that of all."""
        gradient_oi, gradient_ok = (None if x is None else x[rows] for x in (self.gradient_oi, self.gradient_ok))
        return replace(self, gradient_oi=gradient_oi, gradient_ok=gradient_ok)

    def gradient_at(self, d_oi: Tensor, out: Tensor) -> Tensor:
        """2(DH + G₀) = 2(DP + W)Pᵀ."""
        if self.factor_ik is not None:
            assert self.gradient_ok is not None
            return torch.mm(torch.addmm(self.gradient_ok, d_oi, self.factor_ik).mul_(2), self.factor_ik.mT, out=out)
        assert self.hessian_ii is not None
        assert self.gradient_oi is not None
        return torch.addmm(self.gradient_oi, d_oi, self.hessian_ii, beta=2, alpha=2, out=out)

    def gradient_at_start(self) -> Tensor:
        """G₀, half the gradient at D = 0, dense (d_out, d_in)."""
        if self.factor_ik is not None:
            assert self.gradient_ok is not None
            return self.gradient_ok @ self.factor_ik.mT
        assert self.gradient_oi is not None
        return self.gradient_oi


def build_quadratic(
    updates: Sequence[Update],
    weights: Sequence[float],
    dtype: torch.dtype | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
) -> Quadratic:
    """The WUDI objective of non-zero updates with unnormalised weights ω, in the cheaper of its two forms.

    ``transform``, a linear map of row vectors (… , d_in), makes it the objective of the transformed updates. They and
    their copies in ``dtype`` (the updates' own by default) are formed one at a time.
    """
    dtype = dtype or updates[0].dtype

    def prepared(update: Update) -> Update:
        update = update.to(dtype=dtype)
        return update if transform is None else map_rows(update, transform)

    if _thin(updates):
        thin = [prepared(update) for update in updates]
        scales = [weight / squared_norm(update) for weight, update in zip(weights, thin, strict=True)]
        return _factored(thin, scales)
    total_oi = plain_sum(updates, dtype)
    if transform is not None:
        total_oi = transform(total_oi)
    sums = _Sums.zeros(total_oi)
    gram_ii = torch.empty_like(sums.hessian_ii)
    for update, weight in zip(updates, weights, strict=True):
        delta = dense(prepared(update))
        term_oi, start = _gradient_term(total_oi - delta, delta, gram_ii)
        sums.add(weight / squared_norm(delta), start, term_oi, gram_ii)
    return sums.quadratic()


def build_pair(
    updates: Sequence[Update], weights: Sequence[float], metric: Metric, dtype: torch.dtype | None = None
) -> tuple[Quadratic, Quadratic]:
    """The objectives of the updates and of the updates whitened by ``metric``.

    Δ_iᵀΔ_i and (M₀ − Δ_i)Δ_iᵀΔ_i, nearly all of the work, serve both: the whitening is a multiple of the identity but
    for a few directions. That subtracts squared scales from each other, so under a metric with too large a
    spread for ``dtype`` each objective is built by itself.
    """
    dtype = dtype or updates[0].dtype
    if _thin(updates) or metric.spread() * torch.finfo(dtype).eps > SHARED_ACCURACY:
        whiten = partial(metric.times_power, power=-0.5)
        return build_quadratic(updates, weights, dtype), build_quadratic(updates, weights, dtype, whiten)
    total_oi = plain_sum(updates, dtype)
    basis_iu = metric.basis_iu.to(total_oi)
    identity_scale, core_uu = metric.power_parts(-1.0, total_oi)
    plain = _Sums.zeros(total_oi)
    whitened = _Sums.zeros(total_oi)
    gram_ii = torch.empty_like(plain.hessian_ii)
    for update, weight in zip(updates, weights, strict=True):
        delta = dense(update.to(dtype=dtype))
        others = total_oi - delta
        term_oi, start = _gradient_term(others, delta, gram_ii)
        energy = squared_norm(delta)
        plain.add(weight / energy, start, term_oi, gram_ii)
        gram_iu, others_ou = gram_ii @ basis_iu, others @ basis_iu
        whitened_energy = identity_scale * energy + float(torch.sum(core_uu * (basis_iu.mT @ gram_iu)))
        # (M₀ − Δ)𝓑⁻¹ΔᵀΔ from (M₀ − Δ)ΔᵀΔ, and its product with (M₀ − Δ)𝓑⁻¹ without forming that.
        term_oi.mul_(identity_scale).addmm_(others_ou @ core_uu, gram_iu.mT)
        start_inside = torch.sum((term_oi @ basis_iu) * (others_ou @ core_uu))
        whitened_start = float(identity_scale * torch.sum(term_oi * others) + start_inside)
        whitened.add(weight / whitened_energy, whitened_start, term_oi, gram_ii)
    # What is left of the whitening sI + QEQᵀ: on G₀ from the right, on H from both sides.
    identity_scale, core_uu = metric.power_parts(-0.5, total_oi)
    gradient_oi, hessian_ii = whitened.gradient_oi, whitened.hessian_ii
    gradient_ou = (gradient_oi @ basis_iu) @ core_uu
    gradient_oi.mul_(identity_scale).addmm_(gradient_ou, basis_iu.mT)
    hessian_iu = hessian_ii @ basis_iu
    side_iu = (identity_scale * hessian_iu + 0.5 * basis_iu @ (core_uu @ (basis_iu.mT @ hessian_iu))) @ core_uu
    hessian_ii.mul_(identity_scale**2).addmm_(side_iu, basis_iu.mT).addmm_(basis_iu, side_iu.mT)
    return plain.quadratic(), whitened.quadratic()


@dataclass
class _Sums:
    """Running sums of f₀, G₀ and H; terms are scaled first, so that opposed pairs cancel exactly."""

    start: float
    gradient_oi: Tensor
    hessian_ii: Tensor

    @classmethod
    def zeros(cls, like_oi: Tensor) -> "_Sums":
        d_in = like_oi.shape[1]
        return cls(0.0, torch.zeros_like(like_oi), like_oi.new_zeros(d_in, d_in))

    def add(self, scale: float, start: float, term_oi: Tensor, gram_ii: Tensor) -> None:
        self.start += scale * start
        self.gradient_oi.add_(scale * term_oi)
        self.hessian_ii.add_(gram_ii, alpha=scale)

    def quadratic(self) -> Quadratic:
        trace = float(self.hessian_ii.diagonal().double().sum())
        return Quadratic(self.start, trace, hessian_ii=self.hessian_ii, gradient_oi=self.gradient_oi)


def total(updates: Sequence[Update], dtype: torch.dtype | None = None) -> Update:
    """M₀ = Σ_i Δ_i (unweighted), the starting point of every solver, factored where every update is."""
    thin = [update for update in updates if isinstance(update, LowRank)]
    return stacked(thin).to(dtype=dtype) if len(thin) == len(updates) else plain_sum(updates, dtype)


def plain_sum(updates: Sequence[Update], dtype: torch.dtype | None = None) -> Tensor:
    """M₀ as a dense matrix in ``dtype``, the updates' own by default."""
    first = updates[0]
    total = torch.zeros(tuple(first.shape), dtype=dtype or first.dtype, device=first.device)
    for update in updates:
        accumulate(update, total)
    return total


def _thin(updates: Sequence[Update]) -> bool:
    """Whether the updates together have so few directions that H is cheaper as a product of two thin factors."""
    d_out, d_in = updates[0].shape
    factored = all(isinstance(update, LowRank) for update in updates)
    width = sum(update.rank if isinstance(update, LowRank) else d_out for update in updates)
    return 2 * width <= d_in or (factored and width <= d_in)


def _gradient_term(others_oi: Tensor, delta_oi: Tensor, gram_ii: Tensor) -> tuple[Tensor, float]:
    """XΔᵀΔ and ‖XΔᵀ‖² for X = M₀ − Δ; ``gram_ii`` becomes ΔᵀΔ."""
    mirror(add_gram(gram_ii.zero_(), delta_oi))
    # (XΔᵀ)Δ costs no more than X(ΔᵀΔ) where d_out is short.
    short = 2 * delta_oi.shape[0] <= delta_oi.shape[1]
    term_oi = (others_oi @ delta_oi.mT) @ delta_oi if short else others_oi @ gram_ii
    return term_oi, float(torch.sum(term_oi * others_oi, dtype=torch.float64))


def _factored(updates: Sequence[Update], scales: Sequence[float]) -> Quadratic:
    """H = PPᵀ from factors P_i P_iᵀ = a_i Δ_iᵀΔ_i, without a product over two large sides; W_i = Σ_{j≠i} Δ_j P_i."""
    factors, mixes, rights = [], [], []
    for update, scale in zip(updates, scales, strict=True):
        if isinstance(update, LowRank):
            mixes.append(scale**0.5 * torch.linalg.qr(update.left_or, mode="r")[1])
            rights.append(update.right_ri)
            factors.append((mixes[-1] @ update.right_ri).mT)
        else:
            factors.append(scale**0.5 * update.mT)
    gradients, start = [], 0.0
    for i, factor in enumerate(factors):
        gradient_ok = torch.zeros(updates[0].shape[0], factor.shape[1], dtype=factor.dtype, device=factor.device)
        for j, other in enumerate(updates):
            if j != i:
                gradient_ok += times(other, factor)
        gradients.append(gradient_ok)
        start += vector_norm(gradient_ok) ** 2
    factor_ik = torch.cat(factors, dim=1)
    thin = len(rights) == len(factors)
    return Quadratic(
        start,
        vector_norm(factor_ik) ** 2,
        factor_ik=factor_ik,
        gradient_ok=torch.cat(gradients, dim=1),
        mix_kr=torch.block_diag(*mixes) if thin else None,
        right_ri=torch.cat(rights) if thin else None,
    )
