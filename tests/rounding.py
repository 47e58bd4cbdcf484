"""How far rounding may take a number: the one place where tests get bounds that lie near it."""

import torch


def rounding(n: int, dtype: torch.dtype = torch.float64, condition: float = 1.0) -> float:
    """n·eps·condition, relative to the norm of the result (its largest entry's scale, its trace, …).

    The first-order bound of one step that is backward stable: a sum or inner product of n terms, a product,
    factorisation or eigenproblem of size n (Higham, Accuracy and Stability of Numerical Algorithms, 3.5). ``condition``
    is what the step does to a relative error of its input: 1 for sums, products and the largest eigenvalue,
    λ_max/λ for a smaller one or an inverse. Bounds of successive steps add. Errors seen are mostly a tenth of it.
    """
    return n * torch.finfo(dtype).eps * condition
