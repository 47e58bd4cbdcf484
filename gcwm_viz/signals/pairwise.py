"""Conflict and overlap between pairs of updates, each pair in a basis of its own (Sec. 3, App. E)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.conflict import common_conflict, pair_conflict, shrinkage, symmetric_table
from gcwm_viz.linalg.bures import Planes
from gcwm_viz.linalg.subspace import RightSubspace


class Pairs:
    """Principal angles and conflicts of pairs of analysis subspaces, each computed once.

    The cache is keyed by identity and therefore holds the subspaces.
    """

    def __init__(self, config: GCWMConfig) -> None:
        self._config = config
        self._cache: dict[tuple[int, int], _Pair] = {}

    def gammas(self, subspaces: Sequence[RightSubspace]) -> Tensor:
        """γ (m, m) in [0, 1], each pair in its own basis; higher = more conflict, diagonal 0."""
        m = len(subspaces)
        pairs = self._pairs(subspaces)
        if not pairs:
            return torch.zeros(m, m, dtype=torch.float64)
        return symmetric_table(torch.stack([pair.gamma for pair in pairs]), m)

    def mean_in_one_basis(self, subspaces: Sequence[RightSubspace], dim: int) -> float:
        """Mean pairwise γ in [0, 1] in a common basis of ``dim`` directions spanned by all of them; NaN for fewer than
        two."""
        m = len(subspaces)
        if m < 2:
            return float("nan")
        pairs = self._pairs(subspaces)
        traces = torch.stack([subspace.energies_r.sum() for subspace in subspaces])
        equal = torch.full_like(traces, 1.0 / m)
        lam = shrinkage(traces, equal, dim, self._config.lam, self._config.lambda_mode)
        planes = Planes(*(torch.stack([getattr(pair.planes, part) for pair in pairs]) for part in _PARTS))
        first, second = (torch.stack([getattr(pair, side) for pair in pairs]) for side in ("first", "second"))
        return float(common_conflict(planes, first, second, lam, dim).mean())

    def _pairs(self, subspaces: Sequence[RightSubspace]) -> list["_Pair"]:
        """Of all i < j in the order of ``torch.triu_indices``."""
        wanted = [(a, b) for i, a in enumerate(subspaces) for b in subspaces[i + 1 :]]
        missing = [pair for pair in wanted if (id(pair[0]), id(pair[1])) not in self._cache]
        if missing:
            self._compute(missing)
        return [self._cache[id(a), id(b)] for a, b in wanted]

    def _compute(self, missing: Sequence[tuple[RightSubspace, RightSubspace]]) -> None:
        width = min(self._config.analysis_rank, missing[0][0].v_ir.shape[0])
        cross = torch.stack([_pad(a.v_ir.mT @ b.v_ir, width, width) for a, b in missing])
        first = torch.stack([_pad(a.energies_r, width) for a, _ in missing])
        second = torch.stack([_pad(b.energies_r, width) for _, b in missing])
        planes = Planes.of(cross)
        dims = torch.tensor([a.rank + b.rank for a, b in missing], device=cross.device)
        gammas = pair_conflict(planes, first, second, dims, self._config.lam, self._config.lambda_mode)
        for index, (a, b) in enumerate(missing):
            own = Planes(planes.coords_a[index], planes.coords_b[index], planes.cosines[index])
            self._cache[id(a), id(b)] = _Pair((a, b), own, first[index], second[index], gammas[index])


@dataclass(frozen=True)
class _Pair:
    members: tuple[RightSubspace, RightSubspace]
    planes: Planes
    first: Tensor
    second: Tensor
    gamma: Tensor


_PARTS = ("coords_a", "coords_b", "cosines")


def _pad(x: Tensor, *shape: int) -> Tensor:
    """Zeros behind the entries of ``x`` up to ``shape``."""
    out = x.new_zeros(shape)
    out[tuple(slice(size) for size in x.shape)] = x
    return out


def principal_angles(first: RightSubspace, second: RightSubspace) -> list[float]:
    """Angles between two right subspaces in degrees, ascending, in [0, 90], as many as the smaller has directions.

    cos θ_k are the singular values of V_iᵀV_j. 0 = a shared direction, 90 = one orthogonal to the other subspace.
    Accurate to some 1e-6 degrees, the cosine's resolution near 1.
    """
    cosines = torch.linalg.svdvals(first.v_ir.mT @ second.v_ir).clamp(0.0, 1.0)
    return [float(angle) for angle in torch.rad2deg(torch.arccos(cosines))]


class Angles:
    """Principal angles between gate subspaces, computed once for every two of them.

    The cache is keyed by identity, because the anchor of every step is another matrix, and therefore holds them.
    """

    def __init__(self) -> None:
        self._cache: dict[tuple[int, int], tuple[RightSubspace, RightSubspace, list[float]]] = {}

    def between(self, first: RightSubspace | None, second: RightSubspace | None) -> list[float]:
        """In degrees, ascending, to four digits; empty where one of the two is absent."""
        if first is None or second is None:
            return []
        key = id(first), id(second)
        if key not in self._cache:
            self._cache[key] = first, second, [round(angle, 4) for angle in principal_angles(first, second)]
        return self._cache[key][2]


def mean_pair(table_mm: Tensor) -> float:
    """Mean over unordered pairs of a symmetric (m, m) table, undefined pairs left out; NaN when none is defined."""
    i, j = torch.triu_indices(table_mm.shape[0], table_mm.shape[1], offset=1, device=table_mm.device)
    values = table_mm[i, j]
    values = values[~values.isnan()]
    return float(values.mean()) if len(values) else float("nan")


def symmetric_sar(sar_mm: Tensor) -> Tensor:
    """Mean of both directions, (m, m) in [0, 1]; higher = more of each update lies in the other's subspace."""
    return 0.5 * (sar_mm + sar_mm.T)
