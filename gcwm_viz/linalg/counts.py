"""How often a merge counts a direction of its updates (SVC, arXiv 2602.05536).

For a left direction u_r of a merge M and an update Δ_i let a_r = u_rᵀM and a_r^i = u_rᵀΔ_i. The number
s_r^i = ⟨a_r, a_r^i⟩/‖a_r^i‖² says how often M has what Δ_i writes there: 1 = once, 2 = twice, 0 = not at all.
Shape suffixes: m = number of updates, o = d_out, i = d_in, r = number of directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import Update, norm, times, transposed
from gcwm_viz.linalg.triplets import STORED


@dataclass(frozen=True)
class Counts:
    """inner_mr: ⟨a_r, a_r^i⟩. energy_mr: ‖a_r^i‖², zero where it is rounding of the update's entries."""

    inner_mr: Tensor
    energy_mr: Tensor

    @property
    def times_mr(self) -> Tensor:
        """s_r^i; 0 where the update has nothing in the direction."""
        has = self.energy_mr > 0
        return torch.where(has, self.inner_mr / torch.where(has, self.energy_mr, 1.0), 0.0)

    @property
    def overcount(self) -> float:
        """1 + Σ ‖a_r^i‖² |s_r^i − 1| / Σ ‖a_r^i‖² ≥ 1, NaN where no update has any of the directions.

        The plain mean of s by energy is about ⟨M, Δ_i⟩/‖Δ_i‖² whatever the directions, so deviations count by size.
        """
        total = float(self.energy_mr.sum())
        return 1 + float((self.inner_mr - self.energy_mr).abs().sum()) / total if total > 0 else float("nan")


def counts(directions_or: Tensor, merged: Update, updates: Sequence[Update]) -> Counts:
    """Of orthonormal directions in the updates' dtype and on their device; nothing large is formed. In float64, on the
    CPU."""
    merged_ri = _along(directions_or, merged)
    inner, energy = [], []
    for update in updates:
        own_ri = _along(directions_or, update)
        energy_r = own_ri.square().sum(1)
        has = energy_r > (STORED * norm(update)) ** 2
        energy.append(torch.where(has, energy_r, 0.0))
        inner.append(torch.where(has, (merged_ri * own_ri).sum(1), 0.0))
    return Counts(torch.stack(inner), torch.stack(energy))


def _along(directions_or: Tensor, update: Update) -> Tensor:
    """uᵀΔ of each direction, (r, d_in), float64 on the CPU."""
    return times(transposed(update), directions_or).mT.cpu().double()
