"""The shared geometry of the updates of one matrix: conflict, gate and metric (METHOD section 1).

Shape suffixes: m = number of updates, o = d_out, i = d_in, r = retained rank, u = dimension of the union basis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.conflict import Projected, layer_conflict, shrinkage, union_conflict
from gcwm_viz.geometry.gate import branch_mode, gate
from gcwm_viz.geometry.metric import Metric
from gcwm_viz.geometry.release import released_geometry
from gcwm_viz.linalg.barycenter import Barycenter, barycenter
from gcwm_viz.linalg.bures import bures_squared, bures_squared_of_roots
from gcwm_viz.linalg.lowrank import Update, squared_norm, times, vector_norm
from gcwm_viz.linalg.psd import sqrtm
from gcwm_viz.linalg.subspace import RightSubspace, right_subspace, union_basis

SAR_EPS = 1e-30


@dataclass(frozen=True)
class LayerGeometry:
    """Geometry of m updates of one matrix. Updates that are exactly zero are absent: NaN in their rows and columns.

    conflict: g in [0, 1], higher = more conflict; 0 by definition for one update, NaN when none is present.
    alpha: gate in [0, 1], higher = more of the geometry branch. mode: ``blend``, ``plain``, ``geo`` or ``absent``.
    pairwise_conflict (m, m) in [0, 1]; sar (m, m) [i→j] in [0, 1], the share of ‖Δ_i‖_F in the subspace of Δ_j.
    spectra: per update the u eigenvalues of B_i, descending (empty when absent); lambda_shares (m,): the share of
    tr B_i that λ supplies. metric_spectrum: the u eigenvalues of the metric's core, descending (the barycenter's, or
    the mean's under ``metric="mean"``). center_mismatch: r = Σ ω_i d²(B_i, B̄). reason: why values are undefined, or "".
    """

    present: tuple[int, ...]
    conflict: float
    alpha: float
    mode: str
    pairwise_conflict: Tensor
    sar: Tensor
    union_rank: int
    retained_ranks: tuple[int, ...]
    lam: float
    lambda_shares: Tensor
    spectra: list[Tensor]
    mean_spectrum: Tensor
    metric_spectrum: Tensor
    barycenter: Barycenter | None
    center_mismatch: float
    metric: Metric | None
    reason: str

    @property
    def barycenter_residual(self) -> float:
        """Relative residual of the barycenter's fixed point; NaN under ``metric="mean"`` or without updates."""
        return float("nan") if self.barycenter is None else self.barycenter.residual


def layer_geometry(
    updates: Tensor | Sequence[Update], weights: Sequence[float] | None = None, config: GCWMConfig | None = None
) -> LayerGeometry:
    """Geometry of (m, d_out, d_in) updates of one matrix with task weights ω (default 1 each).

    Raises ``ValueError`` when shapes differ, a weight is negative or not finite, or all weights are zero.
    """
    config = config or GCWMConfig()
    deltas = check_updates(updates)
    subspaces = [
        right_subspace(delta, config.rank, config.energy) if squared_norm(delta) > 0 else None for delta in deltas
    ]
    return geometry_of(subspaces, cross_norms(deltas, subspaces), check_weights(weights, len(deltas)), config)


def geometry_of(
    subspaces: Sequence[RightSubspace | None], sar: Tensor, weights: Sequence[float], config: GCWMConfig
) -> LayerGeometry:
    """The same from truncated subspaces (None = absent) and the SAR table, both of which can be reused across steps."""
    m = len(subspaces)
    present = tuple(index for index, subspace in enumerate(subspaces) if subspace is not None and weights[index] > 0)
    members = [subspace for index, subspace in enumerate(subspaces) if index in present and subspace is not None]
    if not members:
        return _absent(m, sar)
    device = members[0].v_ir.device
    weights_m = torch.tensor([weights[index] for index in present], dtype=torch.float64, device=device)
    weights_m = weights_m / weights_m.sum()
    center: Barycenter | None
    if config.numerics == "release":
        basis, covariances, lam, gamma, center = released_geometry(members, weights_m, config)
    else:
        basis = union_basis(members)
        projected = Projected.of(members, basis)
        lam = shrinkage(projected.traces_m, weights_m, basis.shape[1], config.lam, config.lambda_mode)
        gamma = union_conflict(projected, lam)
        covariances = projected.covariances(lam)
        roots = projected.roots(lam)
        center = None
        if config.metric == "barycenter":
            center = barycenter(roots, weights_m, config.barycenter_iters, config.barycenter_tol)
    mean = (weights_m.to(covariances.dtype)[:, None, None] * covariances).sum(0)
    mean_spectrum = torch.linalg.eigvalsh(mean).flip(0)
    if config.metric == "mean":
        center = None
    core = mean if center is None else center.value_nn
    energies_m = torch.stack([subspace.energies_r.sum() for subspace in members])
    ridge = shrinkage(energies_m, weights_m, basis.shape[1], config.whitening_ridge, config.lambda_mode)
    metric = Metric.of(basis, core, lam, ridge)
    conflict = layer_conflict(gamma, weights_m)
    alpha = gate(conflict, config)
    traces = covariances.diagonal(dim1=1, dim2=2).sum(1)
    if config.numerics == "release":
        eigenvalues = torch.linalg.eigvalsh(covariances).flip(1)
        distances = bures_squared(covariances.double(), core.double())
    else:
        eigenvalues = projected.spectra(lam)
        distances = bures_squared_of_roots(roots, sqrtm(core))
    mismatch = float((weights_m * distances).sum())
    empty = mean_spectrum.new_zeros(0)
    spectra = iter(eigenvalues)
    shares = torch.full((m,), float("nan"), dtype=torch.float64, device=device)
    shares[list(present)] = (lam * basis.shape[1] / traces).double()
    return LayerGeometry(
        present=present,
        conflict=conflict,
        alpha=alpha,
        mode=branch_mode(alpha, config.skip_tol),
        pairwise_conflict=_expand(gamma, present, m),
        sar=sar,
        union_rank=basis.shape[1],
        retained_ranks=tuple(subspace.rank if subspace is not None else 0 for subspace in subspaces),
        lam=lam,
        lambda_shares=shares,
        spectra=[next(spectra) if index in present else empty for index in range(m)],
        mean_spectrum=mean_spectrum,
        metric_spectrum=metric.values_u.flip(0),
        barycenter=center,
        center_mismatch=mismatch,
        metric=metric,
        reason="one active update: no pairs, and g = 0 by definition" if len(present) == 1 else "",
    )


def cross_norms(deltas: Sequence[Update], subspaces: Sequence[RightSubspace | None]) -> Tensor:
    """SAR_{i→j} = ‖Δ_i V_j‖_F / (‖Δ_i‖_F + ε) as (m, m) in [0, 1], row i of Δ_i; NaN where one is absent."""
    m = len(deltas)
    sar = torch.full((m, m), float("nan"), dtype=torch.float64)
    present = [(index, subspace) for index, subspace in enumerate(subspaces) if subspace is not None]
    if not present:
        return sar
    members = [subspace for _, subspace in present]
    for i, subspace in present:
        ratios = overlaps(deltas[i], subspace.total_energy, members)
        sar[i, torch.tensor([j for j, _ in present])] = ratios
    return sar


def overlaps(delta: Update, total_energy: float, others: Sequence[RightSubspace]) -> Tensor:
    """SAR of one update, whose ‖Δ‖_F² is ``total_energy``, into each of m ≥ 1 subspaces: (m,) in [0, 1]."""
    stacked = torch.cat([subspace.v_ir for subspace in others], dim=1)
    parts = times(delta, stacked.to(delta.device, delta.dtype)).split([each.rank for each in others], dim=1)
    scale = total_energy**0.5 + SAR_EPS
    # ‖ΔV‖ can exceed ‖Δ‖ by rounding
    return torch.tensor([min(vector_norm(part) / scale, 1.0) for part in parts], dtype=torch.float64)


def check_updates(updates: Tensor | Sequence[Update]) -> list[Update]:
    """The updates as a list of (d_out, d_in) matrices in a floating type of at least 32 bits."""
    if isinstance(updates, Tensor) and updates.ndim != 3:
        raise ValueError(f"updates must be (m, d_out, d_in), got shape {tuple(updates.shape)}")
    deltas: list[Update] = list(updates)
    if not deltas:
        raise ValueError("updates must hold at least one matrix, got none")
    for index, delta in enumerate(deltas):
        if tuple(delta.shape) != tuple(deltas[0].shape) or len(delta.shape) != 2:
            raise ValueError(
                f"updates must share one 2-D shape: update 0 is {tuple(deltas[0].shape)}, update {index} is "
                f"{tuple(delta.shape)}"
            )
        if delta.dtype not in (torch.float32, torch.float64):
            deltas[index] = delta.to(dtype=torch.float32)
        if not squared_norm(deltas[index]) < float("inf"):
            raise ValueError(f"update {index} holds NaN or Inf")
    return deltas


def check_weights(weights: Sequence[float] | None, m: int) -> list[float]:
    """ω as m non-negative finite floats, not all zero."""
    values = [1.0] * m if weights is None else [float(weight) for weight in weights]
    if len(values) != m:
        raise ValueError(f"weights must hold one value per update: expected {m}, got {len(values)}")
    if not all(0 <= weight < float("inf") for weight in values) or not any(values):
        raise ValueError(f"weights must be finite, at least 0 and not all 0, got {values}")
    return values


def _expand(gamma: Tensor, present: tuple[int, ...], m: int) -> Tensor:
    full = torch.full((m, m), float("nan"), dtype=torch.float64, device=gamma.device)
    index = torch.tensor(present, device=gamma.device)
    full[index[:, None], index[None, :]] = gamma
    return full


def _absent(m: int, sar: Tensor) -> LayerGeometry:
    nan = float("nan")
    empty = torch.zeros(0, dtype=torch.float64)
    return LayerGeometry(
        present=(),
        conflict=nan,
        alpha=nan,
        mode="absent",
        pairwise_conflict=torch.full((m, m), nan, dtype=torch.float64),
        sar=sar,
        union_rank=0,
        retained_ranks=(0,) * m,
        lam=nan,
        lambda_shares=torch.full((m,), nan, dtype=torch.float64),
        spectra=[empty] * m,
        mean_spectrum=empty,
        metric_spectrum=empty,
        barycenter=None,
        center_mismatch=nan,
        metric=None,
        reason="no active update touches this matrix",
    )
