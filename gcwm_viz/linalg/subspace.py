"""Right singular subspaces of updates and the orthonormal basis of their union (METHOD: Alg. 1).

Shape suffixes: o = d_out, i = d_in, r = retained rank, u = rank of the union, s = sum of the retained ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.gram import add_gram, mirror
from gcwm_viz.linalg.lowrank import LowRank, Update, squared_norm
from gcwm_viz.linalg.psd import leading_eigh

ENERGY_ROUNDING = 4096 * torch.finfo(torch.float64).eps
"""n·eps of the Gram matrix of an update some thousands wide: the relative difference that rounding
may leave between the sum of its eigenvalues and ‖Δ‖_F²."""

UNION_TOLERANCE = 1e-6
"""Directions whose singular value in [V_1 … V_m] is below this share of the largest are dropped.

A finer level would be below the rounding of float32 weights: a state contains the row space of its updates only up to
some 1e-7, and rounding would decide the dimension of their union, and with it a relative λ.
"""


@dataclass(frozen=True)
class RightSubspace:
    """Leading right singular subspace of one update, float64.

    ``v_ir`` (d_in, r) orthonormal columns; ``energies_r`` (r,) squared singular values, descending;
    ``total_energy`` = ‖Δ‖_F², not only the retained part.
    """

    v_ir: Tensor
    energies_r: Tensor
    total_energy: float

    @property
    def rank(self) -> int:
        return self.energies_r.shape[0]

    def truncate(self, rank: int, energy: float) -> "RightSubspace":
        """The first min(rank, smallest k that keeps the share ``energy``) directions, at least one."""
        r = min(retained_rank(self.energies_r, self.total_energy, energy), rank, self.rank)
        return RightSubspace(self.v_ir[:, :r], self.energies_r[:r], self.total_energy)


def retained_rank(energies_r: Tensor, total_energy: float, energy: float) -> int:
    """Smallest k with Σ_{j≤k} σ_j² ≥ energy·total, at least 1; all of ``energies_r`` when they do not reach it."""
    sufficient = torch.cumsum(energies_r, 0) >= energy * total_energy * (1 - ENERGY_ROUNDING)
    first = int(torch.argmax(sufficient.to(torch.int8))) if bool(sufficient.any()) else energies_r.shape[0] - 1
    return first + 1


def right_subspace(update: Update, rank: int, energy: float) -> RightSubspace:
    """Truncated right SVD of a non-zero update, computed in float64 from the Gram matrix of its smaller side.

    The result is on the CPU on whatever device the update is: all that follows is small.
    The total energy comes from ‖Δ‖_F². Raises ``ValueError`` for a zero update: it has no geometry.
    """
    total = squared_norm(update)
    if not total > 0.0:
        raise ValueError("a zero update has no singular subspace")
    core = _core(update)
    rows, columns = core.shape
    gram = mirror(add_gram(core.new_zeros((min(core.shape),) * 2), core.mT if rows < columns else core))
    values, vectors = leading_eigh(gram, rank)
    # Below this level an eigenvalue of the Gram matrix is rounding, and its vector is arbitrary.
    numerical = int((values > values[0] * max(core.shape) * torch.finfo(values.dtype).eps).sum())
    r = min(rank, retained_rank(values[:numerical], total, energy))
    values, vectors = values[:r], vectors[:, :r]
    if rows < columns:
        # Vᵀ = Uᵀ Δ / σ loses orthogonality as (σ_1/σ_r)²; one QR restores it and leaves the leading directions.
        q, triangle = torch.linalg.qr(core.mT @ (vectors / values.sqrt()))
        vectors = q * triangle.diagonal().sign()
    return RightSubspace(vectors.cpu(), values.cpu(), total)


def _core(update: Update) -> Tensor:
    """A float64 matrix with the same right singular vectors and values, as small as the update's form permits."""
    if update.device.type == "mps":  # MPS has no float64
        update = update.to("cpu")
    if not isinstance(update, LowRank):
        return update.double()
    if update.rank >= min(update.shape):
        return update.dense().double()
    _, triangle = torch.linalg.qr(update.left_or.double(), mode="r")
    core: Tensor = triangle @ update.right_ri.double()
    return core


def union_basis(subspaces: Sequence[RightSubspace]) -> Tensor:
    """Q (d_in, u), an orthonormal basis of span[V_1 … V_m], rank-revealing at :data:`UNION_TOLERANCE`."""
    stacked_is = torch.cat([subspace.v_ir for subspace in subspaces], dim=1)
    if len(subspaces) == 1:
        return stacked_is
    q, triangle = torch.linalg.qr(stacked_is)
    left, singular, _ = torch.linalg.svd(triangle)
    basis: Tensor = q @ left[:, : int((singular > UNION_TOLERANCE * singular[0]).sum())]
    return basis


def union_dims(subspaces: Sequence[RightSubspace], first: int) -> tuple[int, int]:
    """Dimensions of :func:`union_basis` of the ``first`` subspaces and of all, from one QR and without a basis."""
    triangle = torch.linalg.qr(torch.cat([subspace.v_ir for subspace in subspaces], dim=1), mode="r")[1]
    width = sum(subspace.rank for subspace in subspaces[:first])

    def rank(matrix: Tensor) -> int:
        singular = torch.linalg.svdvals(matrix)
        return int((singular > UNION_TOLERANCE * singular[0]).sum())

    dim_all = rank(triangle)
    return (dim_all if first == len(subspaces) else rank(triangle[:width, :width])), dim_all
