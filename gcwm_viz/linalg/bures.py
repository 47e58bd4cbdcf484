"""Squared Bures–Wasserstein distance between covariances of the form V diag(σ²) Vᵀ + λI.

d²(A, B) = tr A + tr B − 2 tr (A^{1/2} B A^{1/2})^{1/2} = ‖F‖² + ‖G‖² − 2‖FᵀG‖_* for any factors A = FFᵀ, B = GGᵀ.
The factor form is used throughout: its error is a few units of rounding of the trace, where the root of a product
loses half the digits. Shape suffixes: … = any batch, n = size, r = rank, u = dimension of the common basis.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.psd import sqrtm


def bures_squared(a_nn: Tensor, b_nn: Tensor) -> Tensor:
    """d² (…) ≥ 0 between PSD matrices (…, n, n); 0 if and only if they are equal, up to rounding."""
    return bures_squared_of_roots(sqrtm(a_nn), sqrtm(b_nn))


def bures_squared_of_roots(a_root_nn: Tensor, b_root_nn: Tensor) -> Tensor:
    """The same from symmetric roots A^{1/2}, B^{1/2} (…, n, n)."""
    fidelity = torch.linalg.svdvals(a_root_nn @ b_root_nn).sum(-1)
    traces = a_root_nn.square().sum((-2, -1)) + b_root_nn.square().sum((-2, -1))
    distance: Tensor = (traces - 2 * fidelity).clamp_min(0.0)
    return distance


def bures_squared_floored(a_nn: Tensor, b_nn: Tensor, floor: float) -> Tensor:
    """The same in the released code's arithmetic: the root of the product, eigenvalues floored in every root."""
    root = sqrtm(a_nn, floor)
    return (_trace(a_nn) + _trace(b_nn) - 2 * _trace(sqrtm(root @ b_nn @ root, floor))).clamp_min(0.0)


@dataclass(frozen=True)
class Planes:
    """Two frames V_a, V_b (…, r) in coordinates of a space that holds both: ``coords_a``, ``coords_b`` (…, 2r, r).

    ``cosines`` (…, r) of their principal angles, descending. Only inner products of the frames are needed: with
    V_aᵀV_b = X cos(θ) Yᵀ the frames are [Xᵀ; 0] and [cos(θ) Yᵀ; sin(θ) Yᵀ].
    """

    coords_a: Tensor
    coords_b: Tensor
    cosines: Tensor

    @classmethod
    def of(cls, cross_rr: Tensor) -> "Planes":
        """From V_aᵀV_b (…, r, r) of orthonormal columns; columns of zeros (padding) become new directions."""
        x, cosines, yt = torch.linalg.svd(cross_rr)
        cosines = cosines.clamp(0.0, 1.0)  # a sine lost in the rounding of 1 − cos² enters d² as its square
        sines = (1 - cosines.square()).sqrt()
        coords_b = torch.cat([cosines.unsqueeze(-1) * yt, sines.unsqueeze(-1) * yt], dim=-2)
        return cls(torch.cat([x.mT, torch.zeros_like(x)], dim=-2), coords_b, cosines)

    def shared(self, tolerance: float) -> Tensor:
        """Dimension (…) of the intersection: the number of singular values of [V_a V_b], √(1 ± cos θ), below
        ``tolerance`` times the largest."""
        threshold = tolerance**2 * (1 + self.cosines[..., :1])
        return (1 - self.cosines <= threshold).sum(-1)


def low_rank_bures_squared(planes: Planes, energies_a: Tensor, energies_b: Tensor, lam: Tensor) -> Tensor:
    """d² (…) ≥ 0 between V_a diag(e_a) V_aᵀ + λI and V_b diag(e_b) V_bᵀ + λI, computed in span[V_a V_b].

    ``energies`` (…, r) are zero where a frame is padded; ``lam`` (…). Outside the span both covariances are λI and
    add nothing to d², so the result holds in every larger space.
    """
    factor_a = _root(planes.coords_a, energies_a, lam)
    factor_b = _root(planes.coords_b, energies_b, lam)
    fidelity = torch.linalg.svdvals(factor_a @ factor_b).sum(-1)
    traces = energies_a.sum(-1) + energies_b.sum(-1) + 2 * lam * planes.coords_a.shape[-2]
    distance: Tensor = (traces - 2 * fidelity).clamp_min(0.0)
    return distance


def _root(coords_pr: Tensor, energies_r: Tensor, lam: Tensor) -> Tensor:
    """(C diag(e) Cᵀ + λI)^{1/2} in closed form for orthonormal C: √λ I + C diag(√(e+λ) − √λ) Cᵀ."""
    root_lam = lam.sqrt()[..., None]
    excess = (energies_r + lam[..., None]).sqrt() - root_lam
    identity = torch.eye(coords_pr.shape[-2], dtype=coords_pr.dtype, device=coords_pr.device)
    return root_lam[..., None] * identity + (coords_pr * excess.unsqueeze(-2)) @ coords_pr.mT


def _trace(a_nn: Tensor) -> Tensor:
    return a_nn.diagonal(dim1=-2, dim2=-1).sum(-1)
