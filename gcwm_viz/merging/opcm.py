"""OPCM (arXiv 2501.09522): project each arriving update away from the state, add it, rescale.

The method is defined one update at a time: it looks at the arriving update and Δ_merge,t−1 alone, so memory policy and
task weights do not act on it. Here λ_t holds the norm of each matrix; the authors' code computes one λ_t for the model.
Shape suffixes: o = d_out, i = d_in, k = rank of the state.
"""

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import dense, vector_norm
from gcwm_viz.merging.step import MergeStep, work_dtype

LAMBDA = "opcm_lambda"


def opcm(step: MergeStep, config: GCWMConfig) -> Tensor:
    """S_t = (λ_{t−1} S_{t−1} + X_t) / λ_t (d_out, d_in), with X_t the projected update and S_1 = Δ_1.

    λ_t makes ‖S_t‖_F the mean norm of the updates seen so far that touch the matrix; λ_1 = 1. X_t ⊥ S_{t−1}, so it
    exists. A step whose update does not touch the matrix leaves the state as it is.
    """
    if step.arriving is None:
        return step.zeros(config) if step.previous is None else dense(step.previous).to(work_dtype(config), copy=True)
    work, device = work_dtype(config), step.arriving.device
    place = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    arriving_oi = dense(step.arriving.to(device=place).to(dtype=torch.float64))
    if step.previous is None or not bool(dense(step.previous).any()):
        step.memory[LAMBDA] = 1.0
        return arriving_oi.to(device=device, dtype=work, copy=True)
    state_oi = dense(step.previous).to(place).double()
    total_oi = step.memory[LAMBDA] * state_oi + project_away(arriving_oi, state_oi, step.options.opcm_energy)
    step.memory[LAMBDA] = vector_norm(total_oi) * len(step.norms) / sum(step.norms)
    return (total_oi / step.memory[LAMBDA]).to(device=device, dtype=work)


def project_away(delta_oi: Tensor, state_oi: Tensor, energy: float) -> Tensor:
    """UPVᵀ, P = UᵀΔV with its diagonal and leading r×r block set to zero, S = UΣVᵀ with square U and V; float64.

    r is the smallest k with Σ_{j≤k} σ_j / Σ σ_j > energy. Only entries of P that are set to zero are computed, for
    which the thin decomposition does. Singular vectors of σ = 0 are arbitrary, so the diagonal ends at S's rank.
    """
    u_ok, sigma_k, vt_ki = torch.linalg.svd(state_oi, full_matrices=False)
    tolerance = max(state_oi.shape) * torch.finfo(torch.float32).eps * sigma_k[0]  # the state is kept in float32
    rank = int((sigma_k > tolerance).sum())
    u_ok, sigma_k, vt_ki = u_ok[:, :rank], sigma_k[:rank], vt_ki[:rank]
    leading = 1 + int((sigma_k.cumsum(0) <= energy * sigma_k.sum()).sum())
    projected_kk = u_ok.mT @ delta_oi @ vt_ki.mT
    removed_kk = torch.diag(projected_kk.diagonal())
    removed_kk[:leading, :leading] = projected_kk[:leading, :leading]
    remaining: Tensor = delta_oi - u_ok @ removed_kk @ vt_ki
    return remaining
