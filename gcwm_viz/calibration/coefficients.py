"""Coefficients of a merged state and updates, one set a matrix, layer, family or model.

Shape suffixes: j = sources, the merged state first and then the updates; k = matrices; n = coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import LowRank, Update, accumulate, dense, scaled, stacked
from gcwm_viz.updates.matrices import MatrixKey

GROUPS: dict[str, Callable[[MatrixKey], object]] = {
    "matrix": lambda key: key.name,
    "layer": lambda key: key.layer,
    "family": lambda key: key.family,
    "model": lambda key: None,
}
"""What shares coefficients, by the setting ``per``."""


@dataclass(frozen=True)
class Coefficients:
    """``place_jk``: which coefficient multiplies a source in a matrix, -1 for none: there it keeps its start, 1 for the
    state and 0 for an update. ``start_n``: where the fit begins, the merged state itself."""

    place_jk: Tensor
    start_n: Tensor

    @classmethod
    def of(cls, keys: Sequence[MatrixKey], present_jk: Tensor, per: str) -> Coefficients:
        """``present_jk``: whether a source has a coefficient in a matrix. ``per``: one of :data:`GROUPS`."""
        places: dict[tuple[int, object], int] = {}
        place_jk = torch.full(present_jk.shape, -1)
        for j, k in present_jk.nonzero().tolist():
            place_jk[j, k] = places.setdefault((j, GROUPS[per](keys[k])), len(places))
        start_n = torch.tensor([float(j == 0) for j, _ in places], dtype=torch.float64)
        return cls(place_jk, start_n)

    def factors(self, values_n: Tensor) -> Tensor:
        """(j, k) float64: what every source is multiplied by in every matrix."""
        start_jk = torch.zeros(self.place_jk.shape, dtype=torch.float64)
        start_jk[0] = 1.0
        # A place of -1 reads the value appended last, which the choice then discards.
        read_jk = torch.cat([values_n, values_n.new_zeros(1)])[self.place_jk]
        return torch.where(self.place_jk >= 0, read_jk, start_jk)

    def means(self, values_k: Tensor) -> Tensor:
        """(n,) the mean over the places of every coefficient of a value of each matrix."""
        own_jk = self.place_jk >= 0
        spread = values_k.expand(self.place_jk.shape)[own_jk]
        sums, counts = (
            torch.zeros_like(self.start_n).index_add_(0, self.place_jk[own_jk], each)
            for each in (spread, torch.ones_like(spread))
        )
        return sums / counts

    def gradient(self, products_jk: Tensor) -> Tensor:
        """(n,) ∂L/∂c from ∂L/∂c_jk = ⟨∇_{W_k} L, Δ_jk⟩."""
        own_jk = self.place_jk >= 0
        return torch.zeros_like(self.start_n).index_add_(0, self.place_jk[own_jk], products_jk[own_jk])


def combined(sources: Sequence[Update | None], factors: Sequence[float]) -> Update | None:
    """c_0 W + Σ_i c_i Δ_i of one matrix, factored where all that take part are; None where nothing does."""
    parts = [(source, factor) for source, factor in zip(sources, factors, strict=True) if source is not None and factor]
    if not parts:
        return None
    thin = [scaled(source, factor) for source, factor in parts if isinstance(source, LowRank)]
    if len(thin) == len(parts):
        return stacked([part for part in thin if isinstance(part, LowRank)])
    total_oi = torch.zeros(parts[0][0].shape)
    for source, factor in parts:
        accumulate(source if isinstance(source, LowRank) else dense(source), total_oi, factor)
    return total_oi


def blended(sources: Sequence[Sequence[Update | None]], factors_jk: Tensor) -> list[Update | None]:
    """:func:`combined` of every matrix. ``sources``: (j, k)."""
    matrices = zip(zip(*sources, strict=True), factors_jk.T.tolist(), strict=True)
    return [combined(own, factors) for own, factors in matrices]
