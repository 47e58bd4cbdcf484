"""Conflict and overlap between pairs of updates, each pair in a basis of its own (Sec. 3, App. E)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.conflict import Projected, pair_conflict, shrinkage, union_conflict
from gcwm_viz.linalg.subspace import RightSubspace, union_basis


def pair_gammas(subspaces: Sequence[RightSubspace], config: GCWMConfig) -> Tensor:
    """γ (m, m) in [0, 1] between analysis subspaces, pair basis; higher = more conflict, diagonal 0."""
    return pair_conflict(Projected.of(subspaces, union_basis(subspaces)), config.lam, config.lambda_mode)


def global_gamma(subspaces: Sequence[RightSubspace], config: GCWMConfig) -> float:
    """Mean pairwise γ in [0, 1] in the one basis spanned by all of them; NaN for fewer than two."""
    m = len(subspaces)
    if m < 2:
        return float("nan")
    basis = union_basis(subspaces)
    projected = Projected.of(subspaces, basis)
    equal = torch.full((m,), 1.0 / m, dtype=torch.float64, device=basis.device)
    lam = shrinkage(projected.traces_m, equal, basis.shape[1], config.lam, config.lambda_mode)
    return mean_pair(union_conflict(projected, lam))


def principal_angles(first: RightSubspace, second: RightSubspace) -> list[float]:
    """Angles between two right subspaces in degrees, ascending, in [0, 90], as many as the smaller has directions.

    cos θ_k are the singular values of V_iᵀV_j. 0 = a direction that both have, 90 = one that the other lacks.
    Accurate to some 1e-6 degrees, the cosine's resolution near 1.
    """
    cosines = torch.linalg.svdvals(first.v_ir.mT @ second.v_ir).clamp(0.0, 1.0)
    return [float(angle) for angle in torch.rad2deg(torch.arccos(cosines))]


def mean_pair(table_mm: Tensor) -> float:
    """Mean over unordered pairs of a symmetric (m, m) table, undefined pairs left out; NaN when none is defined."""
    i, j = torch.triu_indices(table_mm.shape[0], table_mm.shape[1], offset=1, device=table_mm.device)
    values = table_mm[i, j]
    values = values[~values.isnan()]
    return float(values.mean()) if len(values) else float("nan")


def symmetric_sar(sar_mm: Tensor) -> Tensor:
    """Mean of both directions, (m, m) in [0, 1]; higher = the updates read more of each other's subspace."""
    return 0.5 * (sar_mm + sar_mm.T)
