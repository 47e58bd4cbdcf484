"""Singular triplets of an update, and what isotropic and singular-vector merges take from them; float64.

Everything here stays in the column and row spaces of the updates, so that an adapter and the same matrix written out
give the same result, and an adapter stays one. For adapters this is the core space of arXiv 2509.17786: orthonormal
bases of the stacked factors and small matrices between them, whose decompositions are those of the updates.
Shape suffixes: o = d_out, i = d_in, d = either, k = number of triplets, c = columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import LowRank, Update, accumulate, dense, norm, scaled, stacked
from gcwm_viz.linalg.subspace import UNION_TOLERANCE

STORED = torch.finfo(torch.float32).eps
"""Updates and states are float32: rounding their entries once moves no singular value by more than half this share of
the norm (Weyl). A smaller singular value counts as zero, since its vectors are arbitrary."""


@dataclass(frozen=True)
class Triplets:
    """U (d_out, k), σ (k,) descending and positive, Vᵀ (k, d_in)."""

    left_ok: Tensor
    values_k: Tensor
    right_ki: Tensor

    def leading(self, count: int) -> "Triplets":
        return Triplets(self.left_ok[:, :count], self.values_k[:count], self.right_ki[:count])

    @property
    def count(self) -> int:
        return self.values_k.shape[0]


def double(update: Update, weight: float = 1.0) -> Update:
    """ω · Δ in float64, on the CPU where its device has none (MPS)."""
    update = update.to("cpu") if update.device.type == "mps" else update
    update = update.to(dtype=torch.float64)
    return update if weight == 1.0 else scaled(update, weight)


def thin(updates: Sequence[Update]) -> bool:
    """Whether all are factored and together have no more columns than d_in: their merge is then stored as factors."""
    ranks = [update.rank for update in updates if isinstance(update, LowRank)]
    return bool(updates) and len(ranks) == len(updates) and sum(ranks) <= updates[0].shape[1]


def total(updates: Sequence[Update], weights: Sequence[float], factored: bool) -> Update:
    """Σ_i ω_i Δ_i in float64, as factors where ``factored``; else one update at a time is copied."""
    wide = (double(update, weight) for update, weight in zip(updates, weights, strict=True))
    if factored:
        return stacked([update for update in wide if isinstance(update, LowRank)])
    first = next(wide)
    out_oi = dense(first).clone()
    for update in wide:
        accumulate(update, out_oi)
    return out_oi


def triplets(update: Update, scale: float | None = None) -> Triplets:
    """The singular triplets of an update from :func:`double` whose σ exceeds :data:`STORED` · ``scale``.

    ``scale``: ‖Δ‖_F by default; of a sum that of its terms, since they may cancel. A factored update is not formed.
    """
    floor = STORED * (norm(update) if scale is None else scale)
    if isinstance(update, LowRank):
        q_ok, triangle_left = torch.linalg.qr(update.left_or)
        q_ik, triangle_right = torch.linalg.qr(update.right_ri.mT)
        u_kk, values_k, vt_kk = torch.linalg.svd(triangle_left @ triangle_right.mT, full_matrices=False)
        left_ok, right_ki = q_ok @ u_kk, vt_kk @ q_ik.mT
    else:
        left_ok, values_k, right_ki = torch.linalg.svd(update, full_matrices=False)
    return Triplets(left_ok, values_k, right_ki).leading(int((values_k > floor).sum()))


def polar(x_dc: Tensor) -> Tensor:
    """The polar factor WZᵀ of X = WΣZᵀ (d, c), a partial isometry: zero where X is.

    Columns are unit vectors. Of those that depend on each other to within :data:`UNION_TOLERANCE` a direction less is
    left; the papers' codes complete it by an arbitrary one.
    """
    w_dk, values_k, zt_kc = torch.linalg.svd(x_dc, full_matrices=False)
    rank = numerical_rank(values_k)
    factor: Tensor = w_dk[:, :rank] @ zt_kc[:rank]
    return factor


def numerical_rank(values_k: Tensor) -> int:
    """How many descending singular values exceed :data:`UNION_TOLERANCE` of the first."""
    return int((values_k > UNION_TOLERANCE * values_k[:1]).sum())


def joint_directions(parts: Sequence[Triplets]) -> int:
    """The smaller side of the updates' core: of dim span[U_1 …] and dim span[V_1 …]; min(d) for updates that fill the
    matrix."""
    left_oc = torch.cat([part.left_ok for part in parts], dim=1)
    right_ci = torch.cat([part.right_ki for part in parts])
    return min(numerical_rank(torch.linalg.svdvals(side)) for side in (left_oc, right_ci))


def composed(left_oc: Tensor, right_ci: Tensor, factored: bool) -> Update:
    """The product of two factors, multiplied out unless ``factored``."""
    update = LowRank(left_oc, right_ci)
    return update if factored else update.dense()
