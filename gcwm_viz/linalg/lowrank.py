"""An update kept as two thin factors, the form in which LoRA adapters arrive.

Shape suffixes: o = d_out, i = d_in, r = rank.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """The matrix ``left_or @ right_ri`` of shape (d_out, d_in), never formed until asked for."""

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

    def dense(self) -> Tensor:
        """(d_out, d_in) in the factors' dtype."""
        return self.left_or @ self.right_ri

    def to(self, *args: object, **kwargs: object) -> "LowRank":
        return LowRank(self.left_or.to(*args, **kwargs), self.right_ri.to(*args, **kwargs))  # type: ignore[call-overload]
