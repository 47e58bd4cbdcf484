"""The input of a merge method: one matrix at one step."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import LayerGeometry
from gcwm_viz.linalg.lowrank import Update, dense


@dataclass(frozen=True, kw_only=True)
class MergeStep:
    """One matrix at one step. Updates that do not touch the matrix are left out.

    deltas, names, weights: active updates (d_out, d_in), their names and ω, the arriving one last. geometry: theirs.
    previous: Δ_merge,t−1, for a sequential method; None at step 1. arriving: Δ_t, or None when it does not touch the
    matrix.
    norms: ‖Δ‖_F of every update that has arrived so far, whether still active or not.
    matrix: its name. config: settings of geometry, gate and solver. settings: an instance of the method's own group.
    carried: values that a sequential method passes from step to step of this matrix; empty at step 1.
    """

    deltas: Sequence[Update]
    names: Sequence[str]
    weights: Sequence[float]
    geometry: LayerGeometry
    previous: Update | None
    arriving: Update | None
    norms: Sequence[float]
    matrix: str
    shape: tuple[int, int]
    config: GCWMConfig
    settings: Any
    carried: dict[str, float] = field(default_factory=dict)

    @property
    def work_dtype(self) -> torch.dtype:
        return work_dtype(self.config)

    def active(self) -> list[tuple[str, Update, float]]:
        """(name, Δ, ω) of the active updates that are not zero and have ω > 0, dense or factored."""
        return [(self.names[i], self.deltas[i], self.weights[i]) for i in self.geometry.present]

    def active_dense(self) -> list[tuple[str, Tensor, float]]:
        """The same as dense matrices in the working precision."""
        return [(name, dense(delta.to(dtype=self.work_dtype)), weight) for name, delta, weight in self.active()]

    def zeros(self) -> Tensor:
        """(d_out, d_in) in the working precision."""
        like = self.deltas[0] if self.deltas else self.previous
        device = like.device if like is not None else torch.device("cpu")
        return torch.zeros(self.shape, dtype=self.work_dtype, device=device)


def work_dtype(config: GCWMConfig) -> torch.dtype:
    """The dtype in which full matrices are multiplied and results returned."""
    return torch.float64 if config.precision == "float64" else torch.float32
