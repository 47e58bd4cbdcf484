"""Geometry conflict between projected covariances (equations 3-5), all pairs at once.

Shape suffixes: m = number of covariances, u = dimension of the common basis, r = padded rank, p = number of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.bures import low_rank_bures_squared
from gcwm_viz.linalg.subspace import UNION_TOLERANCE, RightSubspace

EPS = 1e-30
"""ε of equation 4: keeps a division of zero by zero at zero and is invisible otherwise."""


@dataclass(frozen=True)
class Projected:
    """Retained subspaces in the coordinates of a common basis: ``coords_mur`` and ``energies_mr``, zero-padded."""

    coords_mur: Tensor
    energies_mr: Tensor

    @classmethod
    def of(cls, subspaces: Sequence[RightSubspace], basis_iu: Tensor) -> "Projected":
        r = max(subspace.rank for subspace in subspaces)
        coords = basis_iu.new_zeros(len(subspaces), basis_iu.shape[1], r)
        energies = basis_iu.new_zeros(len(subspaces), r)
        for index, subspace in enumerate(subspaces):
            coords[index, :, : subspace.rank] = basis_iu.mT @ subspace.v_ir
            energies[index, : subspace.rank] = subspace.energies_r
        return cls(coords, energies)

    @property
    def traces_m(self) -> Tensor:
        """tr S_i², the retained energy of each update, without λ."""
        return self.energies_mr.sum(1)

    def covariances(self, lam: float) -> Tensor:
        """B_i = QᵀV_i diag(S_i²) V_iᵀQ + λI as (m, u, u)."""
        return self._combine(self.energies_mr, lam)

    def roots(self, lam: float) -> Tensor:
        """B_i^{1/2} as (m, u, u), in closed form."""
        return self._combine((self.energies_mr + lam).sqrt() - lam**0.5, lam**0.5)

    def _combine(self, values_mr: Tensor, diagonal: float) -> Tensor:
        low_rank = (self.coords_mur * values_mr.unsqueeze(1)) @ self.coords_mur.mT
        return low_rank + diagonal * torch.eye(low_rank.shape[-1], dtype=low_rank.dtype, device=low_rank.device)


def shrinkage(traces_m: Tensor, weights_m: Tensor, dim: int, lam: float, mode: str) -> float:
    """λ of one basis: ``lam`` itself, or ``lam`` · Σ ω_i tr S_i² / dim Q under ``relative``."""
    return lam if mode == "absolute" else lam * float((weights_m * traces_m).sum()) / dim


def union_conflict(projected: Projected, lam: float) -> Tensor:
    """γ (m, m) in [0, 1] in the common basis (equation 4); 0 = identical covariances, 1 = orthogonal; diagonal 0."""
    m, dim = projected.coords_mur.shape[:2]
    gamma = torch.zeros(m, m, dtype=torch.float64, device=projected.coords_mur.device)
    if m > 1:
        i, j = torch.triu_indices(m, m, offset=1, device=gamma.device)
        distance = _pair_distances(projected, i, j, gamma.new_full((len(i),), lam))
        traces = projected.traces_m + lam * dim
        gamma[i, j] = (distance / (traces[i] + traces[j] + EPS)).clamp(0.0, 1.0)
        gamma = gamma + gamma.T
    return gamma


def pair_conflict(projected: Projected, lam: float, mode: str) -> Tensor:
    """γ (m, m) with a basis, and under ``relative`` a λ, of its own for every pair (the analysis of Sec. 3)."""
    m = projected.coords_mur.shape[0]
    gamma = torch.zeros(m, m, dtype=torch.float64, device=projected.coords_mur.device)
    if m < 2:
        return gamma
    i, j = torch.triu_indices(m, m, offset=1, device=gamma.device)
    traces = projected.traces_m
    # The span's dimension fixes λ, and λ the distance; the dimension does not depend on λ.
    dims = _pair_dims(projected, i, j)
    lams = torch.full_like(traces[i], lam) if mode == "absolute" else lam * 0.5 * (traces[i] + traces[j]) / dims
    distance = _pair_distances(projected, i, j, lams)
    gamma[i, j] = (distance / (traces[i] + traces[j] + 2 * lams * dims + EPS)).clamp(0.0, 1.0)
    return gamma + gamma.T


def layer_conflict(gamma_mm: Tensor, weights_m: Tensor) -> float:
    """g = Σ_{i<j} w_ij γ_ij with w_ij ∝ ω_i ω_j (equation 5), in [0, 1]; 0 for a single update."""
    i, j = torch.triu_indices(gamma_mm.shape[0], gamma_mm.shape[1], offset=1, device=gamma_mm.device)
    weights = weights_m[i] * weights_m[j]
    total = float(weights.sum())
    return float((weights * gamma_mm[i, j]).sum()) / total if total > 0 else 0.0


def _pair_distances(projected: Projected, i: Tensor, j: Tensor, lams_p: Tensor) -> Tensor:
    coords, energies = projected.coords_mur, projected.energies_mr
    return low_rank_bures_squared(coords[i], energies[i], coords[j], energies[j], lams_p)


def _pair_dims(projected: Projected, i: Tensor, j: Tensor) -> Tensor:
    singular = torch.linalg.svdvals(torch.cat([projected.coords_mur[i], projected.coords_mur[j]], dim=-1))
    return (singular > UNION_TOLERANCE * singular[:, :1]).sum(-1).to(torch.float64)
