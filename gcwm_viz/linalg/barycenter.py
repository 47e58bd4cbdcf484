"""Bures–Wasserstein barycenter of covariances, argmin_B Σ ω_i d²(B, B_i) (equation 7).

The paper's fixed point B ← B^{-1/2} (Σ ω_i (B^{1/2} B_i B^{1/2})^{1/2})² B^{-1/2} is, for any factor B = XXᵀ, the
same map as X ← Σ ω_i F_i polar(F_iᵀ X) with B_i = F_i F_iᵀ (Álvarez-Esteban et al. 2016, arXiv 1511.05355, in factor
form). That form takes no inverse, keeps B positive semi-definite whatever X is, and lives in a linear space, so that
Anderson acceleration applies; on near-singular inputs it needs some 30 steps where the plain fixed point needs
hundreds. Shape suffixes: m = number of covariances, n = their size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import vector_norm
from gcwm_viz.linalg.psd import eigh_psd, powm, sqrtm, symmetrize

ANDERSON_DEPTH = 10

COARSE = 1e-8
"""Relative residual down to which polar factors come from eigenvectors of AᵀA: half the time of singular vectors of A,
with the rounding error of its squared condition number. The last steps take exact factors."""


@dataclass(frozen=True)
class Barycenter:
    """``value_nn`` with the relative residual ‖Φ(B) − B‖_F / ‖B‖_F of the fixed-point map Φ at the end.

    ``residuals`` holds it for the start and every iteration, the last of them with exact polar factors, as ``value_nn``
    is; ``iterations`` counts the steps away from the start; ``converged`` says whether ``residual`` is within the
    tolerance.
    """

    value_nn: Tensor
    iterations: int
    residual: float
    converged: bool
    residuals: tuple[float, ...]


def barycenter(roots_mnn: Tensor, weights_m: Tensor, max_iters: int = 200, tol: float = 1e-10) -> Barycenter:
    """Barycenter of B_i = F_i F_iᵀ from the factors F_i (m, n, n) and weights (m,) that sum to one, float64.

    Starts from Σ ω_i F_i, which is already the answer when symmetric roots commute. An accelerated step that raises
    the objective ‖X‖² − 2 Σ ω_i ‖F_iᵀX‖_* is replaced by the plain step, which never raises it.
    """
    weights = weights_m[:, None, None]
    x = (weights * roots_mnn).sum(0)
    polar = _coarse_polar
    image, objective = _procrustes_step(x, roots_mnn, weights, polar)
    points, images, residuals = [x], [image], [_relative_change(x, image)]
    rounding = x.shape[-1] * torch.finfo(x.dtype).eps  # of a trace
    while True:
        ended = residuals[-1] <= tol or len(residuals) > max_iters
        if polar is _coarse_polar and (ended or residuals[-1] <= COARSE):
            polar = _polar  # from here on; the coarse image of the current point is replaced
            images[-1], objective = _procrustes_step(points[-1], roots_mnn, weights, polar)
            residuals[-1] = _relative_change(points[-1], images[-1])
            continue
        if ended:
            break
        candidate = _anderson(points, images)
        next_image, next_objective = _procrustes_step(candidate, roots_mnn, weights, polar)
        if next_objective > objective + rounding * abs(objective):
            candidate = images[-1]
            next_image, next_objective = _procrustes_step(candidate, roots_mnn, weights, polar)
            points, images = [], []
        objective = next_objective
        points = [*points[-ANDERSON_DEPTH:], candidate]
        images = [*images[-ANDERSON_DEPTH:], next_image]
        residuals.append(_relative_change(candidate, next_image))
    x = images[-1]
    return Barycenter(x @ x.mT, len(residuals) - 1, residuals[-1], residuals[-1] <= tol, tuple(residuals))


def _procrustes_step(
    x: Tensor, roots_mnn: Tensor, weights: Tensor, polar: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, float]:
    """Σ ω_i F_i polar(F_iᵀX), and the objective at X (up to a constant)."""
    factors, singular = polar(roots_mnn.mT @ x)
    image = (weights * (roots_mnn @ factors)).sum(0)
    objective = x.square().sum() - 2 * (weights[:, 0] * singular).sum()
    return image, float(objective)


def _polar(a_mnn: Tensor) -> tuple[Tensor, Tensor]:
    """Orthogonal polar factors (m, n, n) and singular values (m, n)."""
    left, singular, right = torch.linalg.svd(a_mnn)
    return left @ right, singular


def _coarse_polar(a_mnn: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(a_mnn.mT @ a_mnn)
    singular = values.clamp_min(values[:, -1:] * torch.finfo(values.dtype).eps).sqrt()
    return ((a_mnn @ vectors) / singular.unsqueeze(-2)) @ vectors.mT, singular


def _anderson(points: list[Tensor], images: list[Tensor]) -> Tensor:
    """The next point: the affine combination of past images whose residual is smallest in least squares."""
    if len(points) < 2:
        return images[-1]
    residual_km = torch.stack([(g - x).flatten() for x, g in zip(points, images, strict=True)])
    image_km = torch.stack([g.flatten() for g in images])
    difference = (residual_km[1:] - residual_km[:-1]).mT
    scale = torch.linalg.vector_norm(difference, dim=0).clamp_min(torch.finfo(difference.dtype).tiny)
    q, triangle = torch.linalg.qr(difference / scale)
    # Nearly dependent histories make the triangle singular; the pseudo-inverse leaves those directions out.
    coefficients = torch.linalg.pinv(triangle, rtol=len(difference) * torch.finfo(difference.dtype).eps) @ (
        q.mT @ residual_km[-1]
    )
    point: Tensor = images[-1] - ((image_km[1:] - image_km[:-1]).mT @ (coefficients / scale)).reshape(images[-1].shape)
    return point


def _relative_change(x: Tensor, image: Tensor) -> float:
    before, after = x @ x.mT, image @ image.mT
    return float(torch.linalg.matrix_norm(after - before) / torch.linalg.matrix_norm(before))


def barycenter_floored(cov_mnn: Tensor, weights_m: Tensor, floor: float, max_iters: int, tol: float) -> Barycenter:
    """The textbook fixed point in the inputs' precision, eigenvalues floored in every root, as in the released code.

    Kept for reproducing published numbers; on near-singular inputs it stops far from the barycenter. Where norms differ
    by some hundreds it can diverge: then the iterate of least residual is returned, not converged.
    """
    weights = weights_m.to(cov_mnn.dtype)[:, None, None]
    b_nn = best_nn = (weights * cov_mnn).sum(0)
    residuals: list[float] = []
    for _ in range(max_iters):
        image = _floored_step(b_nn, cov_mnn, weights, floor)
        if image is None:
            residual = min(residuals, default=float("inf"))
            return Barycenter(best_nn, len(residuals), residual, False, tuple(residuals))
        residuals.append(vector_norm(image - b_nn) / vector_norm(b_nn))
        b_nn = symmetrize(image)
        if residuals[-1] == min(residuals):
            best_nn = b_nn
        if residuals[-1] <= tol:
            break
    return Barycenter(b_nn, len(residuals), residuals[-1], residuals[-1] <= tol, tuple(residuals))


def _floored_step(b_nn: Tensor, cov_mnn: Tensor, weights: Tensor, floor: float) -> Tensor | None:
    """One step of the textbook fixed point, None where it overflows its precision."""
    try:
        values, vectors = eigh_psd(b_nn, floor)
        root, inverse_root = powm(values, vectors, 0.5), powm(values, vectors, -0.5)
        inner = (weights * sqrtm(root @ cov_mnn @ root, floor)).sum(0)
    except torch.linalg.LinAlgError:  # LAPACK fails on infinities, and on condition numbers beyond float32
        return None
    image = inverse_root @ inner @ inner @ inverse_root
    return image if torch.isfinite(image).all() else None
