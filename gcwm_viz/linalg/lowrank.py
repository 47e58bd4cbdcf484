"""An update as a dense matrix or as two thin factors (LoRA), with one set of operations for both.

Shape suffixes: o = d_out, i = d_in, r = rank of the factors, k = any number of columns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """The matrix ``left_or @ right_ri`` of shape (d_out, d_in), formed only by :meth:`dense`."""

    left_or: Tensor
    right_ri: Tensor

    def __post_init__(self) -> None:
        if self.left_or.ndim != 2 or self.right_ri.ndim != 2 or self.left_or.shape[1] != self.right_ri.shape[0]:
            raise ValueError(
                f"low-rank factors must be (d_out, r) and (r, d_in), got {tuple(self.left_or.shape)} "
                f"and {tuple(self.right_ri.shape)}"
            )

    @property
    def shape(self) -> torch.Size:
        return torch.Size((self.left_or.shape[0], self.right_ri.shape[1]))

    @property
    def rank(self) -> int:
        return self.right_ri.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.left_or.dtype

    @property
    def device(self) -> torch.device:
        return self.left_or.device

    def dense(self) -> Tensor:
        """(d_out, d_in) in the factors' dtype."""
        return self.left_or @ self.right_ri

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "LowRank":
        return LowRank(self.left_or.to(device=device, dtype=dtype), self.right_ri.to(device=device, dtype=dtype))


Update: TypeAlias = Tensor | LowRank


def dense(update: Update) -> Tensor:
    """The update as a (d_out, d_in) tensor."""
    return update.dense() if isinstance(update, LowRank) else update


def map_rows(update: Update, linear_map: Callable[[Tensor], Tensor]) -> Update:
    """ΔT for a right operator T, given as the function X ↦ XT; a factored update stays factored."""
    if isinstance(update, LowRank):
        return LowRank(update.left_or, linear_map(update.right_ri))
    return linear_map(update)


def map_columns(update: Update, linear_map: Callable[[Tensor], Tensor]) -> Update:
    """TΔ for a left operator T, given as the function X ↦ TX; a factored update stays factored."""
    if isinstance(update, LowRank):
        return LowRank(linear_map(update.left_or), update.right_ri)
    return linear_map(update)


def transposed(update: Update) -> Update:
    """Δᵀ in the same form, a view."""
    return LowRank(update.right_ri.mT, update.left_or.mT) if isinstance(update, LowRank) else update.mT


def times(update: Update, x_ik: Tensor) -> Tensor:
    """Δ x of shape (d_out, k)."""
    if isinstance(update, LowRank):
        return update.left_or @ (update.right_ri @ x_ik)
    return update @ x_ik


def squared_norm(update: Update) -> float:
    """‖Δ‖_F² accumulated in float64; a factored update is not formed."""
    if isinstance(update, LowRank):
        triangle = torch.linalg.qr(update.left_or.cpu().double(), mode="r")[1]
        return float((triangle @ update.right_ri.cpu().double()).square().sum())
    return vector_norm(update) ** 2


def vector_norm(x: Tensor) -> float:
    """‖x‖_2 of all elements, accumulated in float64 (on the CPU for MPS, which has none)."""
    x = x.cpu() if x.device.type == "mps" else x
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


def norm(update: Update) -> float:
    """‖Δ‖_F, as :func:`squared_norm`."""
    return squared_norm(update) ** 0.5 if isinstance(update, LowRank) else vector_norm(update)


def scaled(update: Update, scale: float) -> Update:
    """scale · Δ in the same form."""
    return LowRank(scale * update.left_or, update.right_ri) if isinstance(update, LowRank) else scale * update


def difference(first: Update, second: Update) -> Update:
    """Δ_1 − Δ_2, factored where both are, with the sum of their ranks."""
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        return stacked([first, LowRank(-second.left_or, second.right_ri)])
    return dense(first) - dense(second)


def stacked(updates: Sequence[LowRank]) -> LowRank:
    """Σ_i Δ_i as one pair of factors with the sum of the ranks."""
    return LowRank(
        torch.cat([update.left_or for update in updates], dim=1),
        torch.cat([update.right_ri for update in updates], dim=0),
    )


def lerp(first: Update, second: Update, share: float) -> Update:
    """(1 − share) Δ_1 + share Δ_2; two factored matrices share their right factor."""
    if isinstance(first, LowRank) and isinstance(second, LowRank):
        return LowRank(torch.lerp(first.left_or, second.left_or, share), first.right_ri)
    return torch.lerp(dense(first), dense(second), share)


def accumulate(update: Update, out_oi: Tensor, scale: float = 1.0) -> Tensor:
    """``out_oi += scale · Δ`` in place, without forming a second dense matrix for a factored update."""
    if isinstance(update, LowRank):
        return out_oi.addmm_(update.left_or.to(out_oi.dtype), update.right_ri.to(out_oi.dtype), alpha=scale)
    return out_oi.add_(update, alpha=scale)
