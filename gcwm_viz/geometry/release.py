"""The released code's arithmetic: float32 throughout, eigenvalues floored at λ in every matrix root.

Kept for reproducing published numbers. On small updates the floor hides the conflict and rounding decides the
gate; ``numerics="exact"`` has neither fault.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.conflict import EPS, shrinkage
from gcwm_viz.linalg.barycenter import Barycenter, barycenter_floored
from gcwm_viz.linalg.bures import bures_squared_floored
from gcwm_viz.linalg.subspace import RightSubspace


def released_geometry(
    subspaces: Sequence[RightSubspace], weights_m: Tensor, config: GCWMConfig
) -> tuple[Tensor, Tensor, float, Tensor, Barycenter]:
    """Basis (d_in, u) without rank revealing, covariances (m, u, u), λ, γ (m, m) and barycenter, in float32."""
    frames = [subspace.v_ir.float() for subspace in subspaces]
    basis_iu = torch.linalg.qr(torch.cat(frames, dim=1))[0]
    traces_m = torch.stack([subspace.energies_r.sum() for subspace in subspaces])
    lam = shrinkage(traces_m, weights_m, basis_iu.shape[1], config.lam, config.lambda_mode)
    identity = torch.eye(basis_iu.shape[1], device=basis_iu.device)
    covariances = []
    for v_ir, subspace in zip(frames, subspaces, strict=True):
        coords_ur = basis_iu.mT @ v_ir
        covariances.append((coords_ur * subspace.energies_r.float()) @ coords_ur.mT + lam * identity)
    cov_muu = torch.stack(covariances)
    m = len(subspaces)
    gamma = torch.zeros(m, m, dtype=torch.float64, device=basis_iu.device)
    for i in range(m):
        for j in range(i + 1, m):
            distance = bures_squared_floored(cov_muu[i], cov_muu[j], lam)
            traces = cov_muu[i].trace() + cov_muu[j].trace()
            gamma[i, j] = gamma[j, i] = float((distance / (traces + EPS)).clamp(0.0, 1.0))
    center = barycenter_floored(cov_muu, weights_m, lam, config.barycenter_iters, config.barycenter_tol)
    return basis_iu, cov_muu, lam, gamma, center
