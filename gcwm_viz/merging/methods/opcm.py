"""OPCM (arXiv 2501.09522): project each arriving update away from the state, add it, rescale.

The method is defined one update at a time: it uses the arriving update and Δ_merge,t−1 alone, so the policy of
the active set and task weights have no effect. Here λ_t is per matrix; the authors' code computes one for the model.
Shape suffixes: o = d_out, i = d_in, k = rank of the state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import dense, vector_norm
from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.settings.declare import Settings, number


@dataclass(frozen=True, kw_only=True)
class OpcmSettings(Settings):
    opcm_energy: float = number(
        0.5, "share of the sum of the state's singular values that OPCM's leading block exceeds", least=0, below=1
    )


LAMBDA = "opcm_lambda"


def next_state(step: MergeStep) -> Tensor:
    """S_t = (λ_{t−1} S_{t−1} + X_t) / λ_t (d_out, d_in), with X_t the projected update and S_1 = Δ_1.

    λ_t makes ‖S_t‖_F the mean norm of the updates seen so far that touch the matrix; λ_1 = 1. X_t ⊥ S_{t−1}, so it
    exists. A step whose update does not touch the matrix leaves the state as it is.
    """
    if step.arriving is None:
        return step.zeros() if step.previous is None else dense(step.previous).to(step.work_dtype, copy=True)
    work, device = step.work_dtype, step.arriving.device
    double = torch.device("cpu") if device.type == "mps" else device  # MPS has no float64
    arriving_oi = dense(step.arriving.to(device=double).to(dtype=torch.float64))
    if step.previous is None or not bool(dense(step.previous).any()):
        step.carried[LAMBDA] = 1.0
        return arriving_oi.to(device=device, dtype=work, copy=True)
    state_oi = dense(step.previous).to(double).double()
    total_oi = step.carried[LAMBDA] * state_oi + project_away(arriving_oi, state_oi, step.settings.opcm_energy)
    step.carried[LAMBDA] = vector_norm(total_oi) * len(step.norms) / sum(step.norms)
    return (total_oi / step.carried[LAMBDA]).to(device=device, dtype=work)


def project_away(delta_oi: Tensor, state_oi: Tensor, energy: float) -> Tensor:
    """UPVᵀ, P = UᵀΔV with its diagonal and leading r×r block set to zero, S = UΣVᵀ with square U and V; float64.

    r is the smallest k with Σ_{j≤k} σ_j / Σ σ_j > energy. Only the entries of P that are set to zero are
    computed, for which the thin SVD suffices. Singular vectors of σ = 0 are arbitrary, so the diagonal ends at S's
    rank.
    """
    u_ok, sigma_k, vt_ki = torch.linalg.svd(state_oi, full_matrices=False)
    tolerance = max(state_oi.shape) * torch.finfo(torch.float32).eps * sigma_k[0]  # the state is stored in float32
    rank = int((sigma_k > tolerance).sum())
    u_ok, sigma_k, vt_ki = u_ok[:, :rank], sigma_k[:rank], vt_ki[:rank]
    leading = 1 + int((sigma_k.cumsum(0) <= energy * sigma_k.sum()).sum())
    projected_kk = u_ok.mT @ delta_oi @ vt_ki.mT
    removed_kk = torch.diag(projected_kk.diagonal())
    removed_kk[:leading, :leading] = projected_kk[:leading, :leading]
    remaining: Tensor = delta_oi - u_ok @ removed_kk @ vt_ki
    return remaining


OPCM = MergeMethod(
    name="opcm",
    source="arXiv 2501.09522",
    summary="each arriving update projected away from the state, norm held",
    merge=lambda step: Merge.of(next_state(step)),
    settings=OpcmSettings,
    sequential=True,
)
