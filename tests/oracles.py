"""The method once more, written straight from its formulas in NumPy and SciPy: slow, dense, and independent.

Nothing here uses the package. Everything is float64.
"""

from dataclasses import dataclass

import numpy as np
import ot
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.rounding import rounding

Array = NDArray[np.float64]


def bures_squared(a: Array, b: Array) -> float:
    """tr A + tr B − 2 tr (A^{1/2} B A^{1/2})^{1/2} with SciPy's Schur-method root."""
    root = np.real(scipy.linalg.sqrtm(a))
    return float(np.trace(a) + np.trace(b) - 2 * np.trace(np.real(scipy.linalg.sqrtm(root @ b @ root))))


def barycenter(covariances: Array, weights: Array) -> Array:
    """POT's Bures–Wasserstein barycenter of centred Gaussians, until steps are below rounding or 5000 are done."""
    means = np.zeros(covariances.shape[:2])
    _, result = ot.gaussian.bures_wasserstein_barycenter(
        means, covariances, weights=weights, num_iter=5000, eps=rounding(len(covariances[0])), log=False
    )
    return np.asarray(result)


def power(a: Array, exponent: float) -> Array:
    values, vectors = scipy.linalg.eigh(a)
    return np.asarray((vectors * values**exponent) @ vectors.T)


@dataclass
class Geometry:
    basis: Array
    covariances: Array
    gamma: Array
    conflict: float
    lam: float
    center: Array
    metric: Array


def geometry(
    updates: Array, weights: Array, *, rank: int, energy: float, lam: float, relative: bool = False
) -> Geometry:
    """Section 1 of the method: full SVDs, SciPy's orth, dense covariances, POT's barycenter, the metric dense."""
    frames, squares = [], []
    for update in updates:
        _, singular, vt = np.linalg.svd(update, full_matrices=False)
        share = np.cumsum(singular**2) / np.sum(singular**2)
        r = min(rank, int(np.searchsorted(share, energy)) + 1)
        frames.append(vt[:r].T)
        squares.append(singular[:r] ** 2)
    basis = scipy.linalg.orth(np.concatenate(frames, axis=1), rcond=1e-8)
    u = basis.shape[1]
    weights = weights / weights.sum()
    if relative:
        lam = lam * float(sum(w * s.sum() for w, s in zip(weights, squares, strict=True))) / u
    covs = np.stack(
        [basis.T @ v @ np.diag(s) @ v.T @ basis + lam * np.eye(u) for v, s in zip(frames, squares, strict=True)]
    )
    m = len(covs)
    gamma = np.zeros((m, m))
    for i in range(m):
        for j in range(m):
            if i != j:
                gamma[i, j] = bures_squared(covs[i], covs[j]) / (np.trace(covs[i]) + np.trace(covs[j]))
    upper = np.triu(np.outer(weights, weights), 1)
    conflict = float((upper * gamma).sum() / upper.sum()) if m > 1 else 0.0
    center = barycenter(covs, weights)
    outside = np.eye(basis.shape[0]) - basis @ basis.T
    return Geometry(basis, covs, gamma, conflict, lam, center, basis @ center @ basis.T + lam * outside)


def wudi_loss(merged: Tensor, updates: Tensor, weights: Tensor) -> Tensor:
    """Σ_i ω_i ‖(M − Δ_i)Δ_iᵀ‖_F² / ‖Δ_i‖_F², term by term."""
    loss = merged.new_zeros(())
    for update, weight in zip(updates, weights, strict=True):
        loss = loss + weight * ((merged - update) @ update.mT).square().sum() / update.square().sum()
    return loss


def wudi_adam(updates: Tensor, weights: Tensor, iters: int, lr: float) -> tuple[Tensor, list[float]]:
    """PyTorch's Adam on the loss, by automatic differentiation; the merged matrix and the loss before every step."""
    merged = updates.sum(0).clone().requires_grad_()
    optimizer = torch.optim.Adam([merged], lr=lr)
    losses = []
    for _ in range(iters):
        optimizer.zero_grad()
        loss = wudi_loss(merged, updates, weights)
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    losses.append(float(wudi_loss(merged.detach(), updates, weights)))
    return merged.detach(), losses


def wudi_exact(updates: Array, weights: Array, mu_rel: float) -> Array:
    """The proximal minimiser as a stacked least-squares problem for LAPACK.

    M [√a_i Δ_iᵀ …, √μ I] ≈ [√a_i Δ_iΔ_iᵀ …, √μ M₀]; with mu_rel = 0 the minimiser nearest to M₀.
    """
    d_in = updates.shape[2]
    scales = weights / np.sum(updates**2, axis=(1, 2))
    mu = mu_rel * weights.sum() / d_in  # tr H = Σ ω_i
    start = updates.sum(0)
    design = [np.sqrt(a) * x for a, x in zip(scales, updates, strict=True)]
    target = [np.sqrt(a) * x @ (x - start).T for a, x in zip(scales, updates, strict=True)]
    if mu > 0:
        design.append(np.sqrt(mu) * np.eye(d_in))
        target.append(np.zeros((d_in, updates.shape[1])))
    # Between the rounding of the zeros of a rank-deficient design and √μ, the least singular value that counts.
    solution = np.linalg.lstsq(np.concatenate(design), np.concatenate(target), rcond=100 * rounding(d_in))[0]
    return np.asarray(start + solution.T)


def wudi_filtered(updates: Array, weights: Array, time: float, share: float) -> Array:
    """M₀ − G₀ Σ_k (1 − exp(−λ_k t))/λ_k q_kq_kᵀ over the leading share of H's eigenvectors (arXiv 2606.07289)."""
    start, d_in = updates.sum(0), updates.shape[2]
    scales = weights / np.sum(updates**2, axis=(1, 2))
    hessian = sum(a * x.T @ x for a, x in zip(scales, updates, strict=True))
    gradient = sum(a * (start - x) @ x.T @ x for a, x in zip(scales, updates, strict=True))
    values, vectors = scipy.linalg.eigh(hessian)
    values, vectors = values[::-1], vectors[:, ::-1]
    taken = round(share * int((values > 1e-12 * values[0]).sum()))
    out = start.copy()
    for value, vector in zip(values[:taken], vectors.T[:taken], strict=True):
        phi = 1 - np.exp(-value * time * d_in / np.trace(hessian))
        out -= np.outer(gradient @ vector, phi / value * vector)
    return np.asarray(out)


def gcwm_exact(updates: Array, weights: Array, metric: Array, mu_rel: float) -> tuple[Array, Array]:
    """Plain and geometry branch with the dense metric: whiten, solve, recolour."""
    plain = wudi_exact(updates, weights, mu_rel)
    whitened = updates @ power(metric, -0.5)
    return plain, wudi_exact(whitened, weights, mu_rel) @ power(metric, 0.5)


def polar(x: Array) -> Array:
    """X (XᵀX)^{+1/2}, a partial isometry: SciPy's polar factor between bases of column and row space."""
    column, row = scipy.linalg.orth(x, rcond=1e-9), scipy.linalg.orth(x.T, rcond=1e-9)
    return np.asarray(column @ scipy.linalg.polar(column.T @ x @ row)[0] @ row.T)


def leading(x: Array, count: int) -> tuple[Array, Array, Array]:
    """The ``count`` leading singular triplets, those without a direction left out."""
    u, s, vt = scipy.linalg.svd(x, full_matrices=False)
    count = min(count, int((s > 1e-9).sum()))
    return u[:, :count], s[:count], vt[:count]


def iso_c(updates: Array) -> Array:
    """Iso-C: the polar factor of the sum, times its nuclear norm over its rank."""
    total = updates.sum(0)
    sigma = scipy.linalg.svdvals(total)
    rank = int((sigma > 1e-9).sum())
    u, _, vt = leading(total, rank)
    return np.asarray(sigma.sum() / rank * u @ vt)


def iso_cts(updates: Array, common: float, directions: int) -> Array:
    """Algorithm 1 of arXiv 2502.04959, its share of ``directions`` rounded as the authors do, but no more than fit."""
    m = len(updates)
    own = round((directions - int(directions * common)) / m)
    own -= own * m > directions
    u_common, s_common, vt_common = leading(updates.sum(0), directions - own * m)
    parts = [leading(update - u_common @ (u_common.T @ update), own) for update in updates]
    parts.append((u_common, s_common, vt_common))
    left = np.concatenate([u for u, _, _ in parts], axis=1)
    right = np.concatenate([vt for _, _, vt in parts]).T
    return np.asarray(np.concatenate([s for _, s, _ in parts]).mean() * polar(left) @ polar(right).T)


def tsv_m(updates: Array) -> Array:
    """TSV-M: concatenated triplets whitened on both sides, as Procrustes gives it (arXiv 2412.00081, section 4)."""
    kept = min(updates.shape[1:]) // len(updates)
    parts = [leading(update, kept) for update in updates]
    left = np.concatenate([u for u, _, _ in parts], axis=1)
    right = np.concatenate([vt for _, _, vt in parts]).T
    return np.asarray(polar(left) @ np.diag(np.concatenate([s for _, s, _ in parts])) @ polar(right).T)


def dop(state: Array, arriving: Array, weight: float) -> Array:
    """The minimum of DOP's two losses by least squares over all entries of M, of least norm."""
    d_out, d_in = state.shape
    rows, values = [], []
    for update, w in ((state, weight), (arriving, 1 - weight)):
        u, s, vt = scipy.linalg.svd(update, full_matrices=False)
        left, right = np.sqrt(w) * s[:, None] * u.T, np.sqrt(w) * vt.T * s
        # vec of A M B for row-major M is (A ⊗ Bᵀ) vec M.
        rows += [np.kron(left, np.eye(d_in)), np.kron(np.eye(d_out), right.T)]
        values += [(left @ update).ravel(), (update @ right).ravel()]
    solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(values), rcond=1e-10)[0]
    return np.asarray(solution.reshape(d_out, d_in))


def svc(merged: Array, updates: Array, alpha: float) -> Array:
    """Singular value calibration, direction by direction (arXiv 2602.05536)."""
    u, sigma, vt = scipy.linalg.svd(merged, full_matrices=False)
    out = np.zeros_like(merged)
    for r in range(len(sigma)):
        row = u[:, r] @ merged
        projections = [u[:, r] @ update for update in updates]
        counts = [max(alpha, float(row @ own / (own @ own))) for own in projections]
        out += len(updates) / sum(counts) * sigma[r] * np.outer(u[:, r], vt[r])
    return out
