"""A direct transcription of the formulas in single precision, regardless of cost: the reference for comparisons.

A full SVD of every update, dense matrix roots in the whole space, a loop over pairs, and Adam on the loss by automatic
differentiation. Nothing of the package is used. Shape suffixes: o = d_out, i = d_in, u = dimension of the union basis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FLOOR = 1e-18


@dataclass(frozen=True)
class NaiveMerge:
    merged: Tensor
    pairwise: Tensor
    alpha: float


def merge(
    updates: Sequence[Tensor],
    *,
    rank: int = 16,
    energy: float = 0.9,
    lam: float = 0.01,
    tau: float = 0.12,
    kappa: float = 10.0,
    alpha_range: tuple[float, float] = (0.15, 0.95),
    iters: int = 100,
    lr: float = 1e-5,
) -> NaiveMerge:
    """GCWM of (d_out, d_in) updates with weights 1, λ = ``lam`` · mean tr S_i² / dim Q."""
    m = len(updates)
    frames, energies = [], []
    for delta in updates:
        _, singular, vt = torch.linalg.svd(delta, full_matrices=False)
        share = torch.cumsum(singular**2, 0) / (singular**2).sum()
        r = min(rank, int((share < energy).sum()) + 1)
        frames.append(vt[:r].T)
        energies.append(singular[:r] ** 2)
    basis, _, _ = torch.linalg.svd(torch.cat(frames, dim=1), full_matrices=False)
    u = basis.shape[1]
    lam = lam * sum(float(e.sum()) for e in energies) / m / u
    identity = torch.eye(u, dtype=basis.dtype)
    covs = []
    for v, e in zip(frames, energies, strict=True):
        covs.append(basis.T @ v @ torch.diag(e) @ v.T @ basis + lam * identity)
    gamma = torch.zeros(m, m)
    for i in range(m):
        for j in range(m):
            if i != j:
                gamma[i, j] = _bures(covs[i], covs[j]) / (covs[i].trace() + covs[j].trace())
    g = sum(float(gamma[i, j]) for i in range(m) for j in range(i)) / (m * (m - 1) / 2)
    alpha = alpha_range[0] + (alpha_range[1] - alpha_range[0]) / (
        1 + float(torch.exp(torch.tensor(-kappa * (g - tau))))
    )
    center = _barycenter(covs)
    d_in = updates[0].shape[1]
    metric = basis @ center @ basis.T + lam * (torch.eye(d_in, dtype=basis.dtype) - basis @ basis.T)
    whitening, colouring = _power(metric, -0.5), _power(metric, 0.5)
    plain = _wudi(list(updates), iters, lr)
    geo = _wudi([delta @ whitening for delta in updates], iters, lr) @ colouring
    return NaiveMerge(alpha * geo + (1 - alpha) * plain, gamma, alpha)


def _wudi(updates: list[Tensor], iters: int, lr: float) -> Tensor:
    merged = torch.stack(updates).sum(0).requires_grad_()
    optimizer = torch.optim.Adam([merged], lr=lr)
    for _ in range(iters):
        optimizer.zero_grad()
        loss = torch.zeros((), dtype=merged.dtype)
        for delta in updates:
            loss = loss + ((merged - delta) @ delta.T).square().sum() / delta.square().sum()
        loss.backward()
        optimizer.step()
    return merged.detach()


def _power(a: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh(a)
    result: Tensor = (vectors * values.clamp_min(FLOOR) ** power) @ vectors.T
    return result


def _bures(a: Tensor, b: Tensor) -> Tensor:
    root = _power(a, 0.5)
    return a.trace() + b.trace() - 2 * _power(root @ b @ root, 0.5).trace()


def _barycenter(covs: list[Tensor], iters: int = 300) -> Tensor:
    center = torch.stack(covs).mean(0)
    for _ in range(iters):
        root, inverse = _power(center, 0.5), _power(center, -0.5)
        inner = torch.zeros_like(center)
        for cov in covs:
            inner = inner + _power(root @ cov @ root, 0.5) / len(covs)
        center = inverse @ inner @ inner @ inverse
        center = (center + center.T) / 2
    return center
