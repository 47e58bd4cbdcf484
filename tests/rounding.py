"""How far rounding may take a number: where tests get the bounds that lie near it.

``pytest.approx(x, rel=…)`` allows 1e-12 absolute beside it; with a bound from here it is given ``abs=0``.
"""

import torch
from torch import Tensor


def rounding(n: int, dtype: torch.dtype = torch.float64, condition: float = 1.0) -> float:
    """n·eps·condition, relative to the size of the result: a norm, a trace, the largest entry.

    The first-order bound of one step that is backward stable: a sum of n terms, a product, a factorisation or an
    eigenproblem of size n (Higham, Accuracy and Stability of Numerical Algorithms, 3.5). ``condition`` is what the step
    does to a relative error of its input: 1 for sums and products, λ_max/λ for a smaller eigenvalue or an inverse.
    Bounds of successive steps add, so that a test multiplies by their number. What is seen is mostly a tenth of it.
    """
    return n * torch.finfo(dtype).eps * condition


def truncation(delta: Tensor, rank: int) -> float:
    """σ_r² / (σ_r² − σ_{r+1}²), the condition of what weighs the leading r right singular vectors by their energies."""
    energies = torch.linalg.svdvals(delta.double()).square()
    after = float(energies[rank]) if rank < len(energies) else 0.0
    return float(energies[rank - 1]) / (float(energies[rank - 1]) - after)
