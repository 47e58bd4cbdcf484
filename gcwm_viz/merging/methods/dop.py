"""DOP (Continual Model Merging without Data, NeurIPS 2025): state and arriving update, each held on both sides.

The method is defined one update at a time and needs the state P = Δ_merge,t−1 and the arriving update T = Δ_t alone, so
the policy of the active set and task weights have no effect. It minimises Σ_{X∈{P,T}} w_X (‖Σ_XU_Xᵀ(M − X)‖² +
‖(M − X)V_XΣ_X‖²) with X = U_XΣ_XV_Xᵀ. The authors take Adam's steps and let the weights follow the gradients; with
fixed weights the minimum is the solution of AM + MB = C with A = Σ wXXᵀ, B = Σ wXᵀX, C = 2Σ wXXᵀX.
Shape suffixes: o = d_out, i = d_in, p, q = directions of A and B.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import LowRank, Update, norm, scaled, times, transposed
from gcwm_viz.linalg.triplets import STORED, composed, double, thin
from gcwm_viz.merging.merge import Merge, MergeMethod
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.settings.declare import Settings, number


@dataclass(frozen=True, kw_only=True)
class DopSettings(Settings):
    dop_weight: float | None = number(
        0.5,
        "weight of the state in DOP, the arriving update having the rest; none for (t − 1)/t, which holds every update "
        "as strongly as the last",
        above=0,
        below=1,
        optional=True,
    )


def next_state(step: MergeStep) -> Update:
    """S_t (d_out, d_in) with S_1 = Δ_1. A step whose update does not touch the matrix leaves the state as it is; t
    counts the updates that do."""
    if step.arriving is None:
        return step.zeros() if step.previous is None else _copy(step.previous, step.work_dtype)
    if step.previous is None or not norm(step.previous) > 0:
        return _copy(step.arriving, step.work_dtype)
    count = len(step.norms)
    weight = (count - 1) / count if step.settings.dop_weight is None else step.settings.dop_weight
    merged = held_on_both_sides(double(step.previous), double(step.arriving), weight)
    return merged.to(step.arriving.device, step.work_dtype)


def held_on_both_sides(state: Update, arriving: Update, weight: float) -> Update:
    """M of the equation above for w_P = ``weight``, of two updates in float64; factored where both are.

    With A = Qdiag(a)Qᵀ and B = Rdiag(b)Rᵀ, M = Q[(QᵀCR)_jk / (a_j + b_k)]Rᵀ. Where a_j = 0 the direction is orthogonal
    to the columns of both, and QᵀC is zero as well; so M is zero outside the spaces of state and update, of which
    nothing in the objective says anything where a_j = b_k = 0 (the solution of least norm). a and b come from singular
    values of the stacked updates, not from products of them with themselves, which would halve the digits.
    """
    factored = thin([state, arriving])
    parts = [scaled(state, weight**0.5), scaled(arriving, (1 - weight) ** 0.5)]
    floor = STORED * sum(norm(part) for part in parts)
    left_op, root_a_p = _directions(parts, floor)
    right_iq, root_b_q = _directions([transposed(part) for part in parts], floor)
    rhs_pq = torch.zeros(left_op.shape[1], right_iq.shape[1], dtype=torch.float64, device=left_op.device)
    for part, update in zip(parts, (state, arriving), strict=True):
        rows_pi = times(transposed(part), left_op).mT  # QᵀX
        rhs_pq += 2 * (rows_pi @ times(transposed(update), times(part, right_iq)))  # QᵀX Xᵀ(XR)
    core_pq = rhs_pq / (root_a_p.square()[:, None] + root_b_q.square()[None, :])
    return composed(left_op @ core_pq, right_iq.mT, factored)


def _directions(parts: list[Update], floor: float) -> tuple[Tensor, Tensor]:
    """Left singular vectors (d, k) of [X_1 X_2] and their singular values above ``floor``."""
    sides = []
    for part in parts:
        if isinstance(part, LowRank):  # X = LR has the columns of L times those of the triangle of Rᵀ
            part = part.left_or @ torch.linalg.qr(part.right_ri.mT, mode="r")[1].mT
        sides.append(part)
    left_dk, values_k, _ = torch.linalg.svd(torch.cat(sides, dim=1), full_matrices=False)
    count = int((values_k > floor).sum())
    return left_dk[:, :count], values_k[:count]


def _copy(update: Update, dtype: torch.dtype) -> Update:
    if isinstance(update, LowRank):
        return LowRank(update.left_or.to(dtype, copy=True), update.right_ri.to(dtype, copy=True))
    return update.to(dtype, copy=True)


DOP = MergeMethod(
    name="dop",
    source="NeurIPS 2025, OpenReview zD5cUX67b9",
    summary="state and arriving update, each held on its inputs and outputs",
    merge=lambda step: Merge.of(next_state(step)),
    settings=DopSettings,
    factored=lambda config: True,
    sequential=True,
)
