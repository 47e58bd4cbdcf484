"""The full-space metric 𝓑 = Q B̄ Qᵀ + λ(I − QQᵀ) (equation 15), applied without being formed.

A ridge ρ, zero in the paper, makes it 𝓑 + ρI for whitening and recolouring: 𝓑 alone amplifies what lies outside the
shared subspace by λ^{-1/2}, and measured scores fall with λ. Distances are measured in 𝓑, without the ridge.

Shape suffixes: o = d_out, i = d_in, u = dimension of the basis.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import Update, map_rows, norm
from gcwm_viz.linalg.psd import eigh_psd, powm


@dataclass(frozen=True)
class Metric:
    """𝓑 + ρI by its basis (d_in, u), the eigenpairs of B̄ (ascending), λ > 0 outside the basis and the ridge ρ ≥ 0."""

    basis_iu: Tensor
    values_u: Tensor
    vectors_uu: Tensor
    lam: float
    ridge: float = 0.0

    @classmethod
    def of(cls, basis_iu: Tensor, cov_uu: Tensor, lam: float, ridge: float = 0.0) -> "Metric":
        """𝓑 + ``ridge`` · I from a mean of covariances B_i ≥ λI; both means keep that bound up to rounding."""
        values, vectors = eigh_psd(cov_uu, floor=lam)
        return cls(basis_iu, values, vectors, lam, ridge)

    def times_power(self, x_oi: Tensor, power: float) -> Tensor:
        """X (𝓑 + ρI)^power for any number of rows; −½ whitens, ½ recolours. In X's dtype."""
        basis = self.basis_iu.to(x_oi)
        core = powm(self.values_u + self.ridge, self.vectors_uu, power).to(x_oi)
        inside = x_oi @ basis
        # The part outside is taken before scaling: λ^power can be a thousand times the scale inside.
        outside = torch.addmm(x_oi, inside, basis.mT, alpha=-1).mul_((self.lam + self.ridge) ** power)
        return outside.addmm_(inside @ core, basis.mT)

    def spread(self) -> float:
        """Largest over smallest eigenvalue of 𝓑 + ρI, ≥ 1."""
        return max(float(self.values_u[-1]) + self.ridge, self.lam + self.ridge) / (self.lam + self.ridge)

    def power_parts(self, power: float, like: Tensor) -> tuple[float, Tensor]:
        """(s, E) with (𝓑 + ρI)^power = sI + QEQᵀ, E (u, u) in the type and on the device of ``like``."""
        outside = (self.lam + self.ridge) ** power
        inside = powm(self.values_u + self.ridge, self.vectors_uu, power)
        inside.diagonal().sub_(outside)
        return outside, inside.to(like)

    def norm(self, x_oi: Update) -> float:
        """‖X‖_𝓑 = (tr X𝓑Xᵀ)^{1/2}, without the ridge."""
        return norm(map_rows(x_oi, partial(replace(self, ridge=0.0).times_power, power=0.5)))
