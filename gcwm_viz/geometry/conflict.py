"""Geometry conflict between projected covariances (equations 3-5), all pairs at once.

Shape suffixes: m = number of covariances, u = dimension of the common basis, r = padded rank, p = number of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.bures import Planes, low_rank_bures_squared
from gcwm_viz.linalg.subspace import UNION_TOLERANCE, RightSubspace

EPS = 1e-30
"""ε of equation 4: makes 0/0 zero and is negligible otherwise."""


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

    def spectra(self, lam: float) -> Tensor:
        """Eigenvalues (m, u) of the covariances, descending: the retained energies and λ, since coordinates are
        orthonormal."""
        pad = self.coords_mur.shape[1] - self.energies_mr.shape[1]
        return torch.nn.functional.pad(self.energies_mr, (0, pad)) + lam

    def _combine(self, values_mr: Tensor, diagonal: float) -> Tensor:
        low_rank = (self.coords_mur * values_mr.unsqueeze(1)) @ self.coords_mur.mT
        return low_rank + diagonal * torch.eye(low_rank.shape[-1], dtype=low_rank.dtype, device=low_rank.device)


def shrinkage(traces_m: Tensor, weights_m: Tensor, dim: int, lam: float, mode: str) -> float:
    """λ of one basis: ``lam`` itself, or ``lam`` · Σ ω_i tr S_i² / dim Q under ``relative``."""
    return lam if mode == "absolute" else lam * float((weights_m * traces_m).sum()) / dim


def union_conflict(projected: Projected, lam: float) -> Tensor:
    """γ (m, m) in [0, 1] in the common basis (equation 4); 0 = identical covariances, 1 = orthogonal; diagonal 0."""
    m, dim = projected.coords_mur.shape[:2]
    if m < 2:
        return projected.coords_mur.new_zeros(m, m)
    i, j = torch.triu_indices(m, m, offset=1, device=projected.coords_mur.device)
    planes = Planes.of(projected.coords_mur[i].mT @ projected.coords_mur[j])
    return symmetric_table(common_conflict(planes, projected.energies_mr[i], projected.energies_mr[j], lam, dim), m)


def common_conflict(planes: Planes, energies_i: Tensor, energies_j: Tensor, lam: float, dim: int) -> Tensor:
    """γ (p,) of p pairs in one space of ``dim`` directions with one λ; ``energies`` (p, r), zero where padded."""
    lams = torch.full_like(energies_i[:, 0], lam)
    distance = low_rank_bures_squared(planes, energies_i, energies_j, lams)
    traces = energies_i.sum(1) + energies_j.sum(1) + 2 * lam * dim
    return (distance / (traces + EPS)).clamp(0.0, 1.0)


def pair_conflict(
    planes: Planes, energies_i: Tensor, energies_j: Tensor, dims_p: Tensor, lam: float, mode: str
) -> Tensor:
    """γ (p,) with a basis, and under ``relative`` a λ, for every pair (the analysis of Sec. 3).

    ``dims_p``: sum of the retained ranks of both members of each pair.
    """
    # The span's dimension fixes λ, and λ the distance; the dimension does not depend on λ.
    dims = (dims_p - planes.shared(UNION_TOLERANCE)).to(energies_i.dtype)
    traces = energies_i.sum(1) + energies_j.sum(1)
    lams = torch.full_like(traces, lam) if mode == "absolute" else lam * 0.5 * traces / dims
    distance = low_rank_bures_squared(planes, energies_i, energies_j, lams)
    return (distance / (traces + 2 * lams * dims + EPS)).clamp(0.0, 1.0)


def symmetric_table(values_p: Tensor, m: int) -> Tensor:
    """(m, m) with ``values_p`` of the pairs i < j in the order of ``torch.triu_indices``, mirrored; diagonal 0."""
    table = values_p.new_zeros(m, m)
    i, j = torch.triu_indices(m, m, offset=1, device=values_p.device)
    table[i, j] = values_p
    return table + table.T


def layer_conflict(gamma_mm: Tensor, weights_m: Tensor) -> float:
    """g = Σ_{i<j} w_ij γ_ij with w_ij ∝ ω_i ω_j (equation 5), in [0, 1]; 0 for a single update."""
    i, j = torch.triu_indices(gamma_mm.shape[0], gamma_mm.shape[1], offset=1, device=gamma_mm.device)
    weights = weights_m[i] * weights_m[j]
    total = float(weights.sum())
    return float((weights * gamma_mm[i, j]).sum()) / total if total > 0 else 0.0
