"""Squared Bures–Wasserstein distance between covariances of the form V diag(σ²) Vᵀ + λI.

d²(A, B) = tr A + tr B − 2 tr (A^{1/2} B A^{1/2})^{1/2} = ‖F‖² + ‖G‖² − 2‖FᵀG‖_* for any factors A = FFᵀ, B = GGᵀ.
The factor form is used throughout: its error is a few units of rounding of the trace, where the root of a product
loses half the digits. Shape suffixes: … = any batch, n = size, r = rank, u = dimension of the common basis.
"""

import torch
from torch import Tensor

from gcwm_viz.linalg.psd import sqrtm


def bures_squared(a_nn: Tensor, b_nn: Tensor) -> Tensor:
    """d² (…) ≥ 0 between PSD matrices (…, n, n); 0 exactly when they are equal (to rounding)."""
    fidelity = torch.linalg.svdvals(sqrtm(a_nn) @ sqrtm(b_nn)).sum(-1)
    return (_trace(a_nn) + _trace(b_nn) - 2 * fidelity).clamp_min(0.0)


def bures_squared_floored(a_nn: Tensor, b_nn: Tensor, floor: float) -> Tensor:
    """The same in the released code's arithmetic: the root of the product, eigenvalues floored in every root."""
    root = sqrtm(a_nn, floor)
    return (_trace(a_nn) + _trace(b_nn) - 2 * _trace(sqrtm(root @ b_nn @ root, floor))).clamp_min(0.0)


def low_rank_bures_squared(v_a: Tensor, energies_a: Tensor, v_b: Tensor, energies_b: Tensor, lam: Tensor) -> Tensor:
    """d² (…) ≥ 0 between V_a diag(e_a) V_aᵀ + λI and V_b diag(e_b) V_bᵀ + λI, without leaving span[V_a V_b].

    ``v`` (…, u, r) with orthonormal columns, or zero columns where ``energies`` (…, r) is zero (padding); ``lam``
    (…). Outside the span both covariances are λI and add nothing to d², so the result holds in every larger basis.
    """
    # Dependent or padded columns only add directions to the basis, and a larger basis gives the same distance.
    basis, _ = torch.linalg.qr(torch.cat([v_a, v_b], dim=-1))
    factor_a = _root(basis.mT @ v_a, energies_a, lam)
    factor_b = _root(basis.mT @ v_b, energies_b, lam)
    fidelity = torch.linalg.svdvals(factor_a @ factor_b).sum(-1)
    traces = energies_a.sum(-1) + energies_b.sum(-1) + 2 * lam * basis.shape[-1]
    return (traces - 2 * fidelity).clamp_min(0.0)


def _root(coords_pr: Tensor, energies_r: Tensor, lam: Tensor) -> Tensor:
    """(C diag(e) Cᵀ + λI)^{1/2} in closed form for orthonormal C: √λ I + C diag(√(e+λ) − √λ) Cᵀ."""
    root_lam = lam.sqrt()[..., None]
    lift = (energies_r + lam[..., None]).sqrt() - root_lam
    identity = torch.eye(coords_pr.shape[-2], dtype=coords_pr.dtype, device=coords_pr.device)
    return root_lam[..., None] * identity + (coords_pr * lift.unsqueeze(-2)) @ coords_pr.mT


def _trace(a_nn: Tensor) -> Tensor:
    return a_nn.diagonal(dim1=-2, dim2=-1).sum(-1)
