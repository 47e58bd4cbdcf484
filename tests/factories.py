"""Synthetic updates and covariances, seeded.

Shape suffixes: m = number of updates, o = d_out, i = d_in, r = rank, n = size of a covariance.
"""

import torch
from torch import Tensor

from gcwm_viz.geometry.metric import Metric
from gcwm_viz.linalg.lowrank import LowRank


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orthogonal(n: int, seed: int) -> Tensor:
    """A random orthogonal matrix (n, n), float64."""
    q: Tensor = torch.linalg.qr(torch.randn(n, n, generator=generator(seed), dtype=torch.float64))[0]
    return q


def updates(
    m: int,
    d_out: int,
    d_in: int,
    *,
    norm: float = 1.0,
    decay: float = 1.0,
    overlap: float = 0.5,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """(m, d_out, d_in) updates of Frobenius norm ``norm`` with singular values j^-decay.

    ``overlap`` in [0, 1] mixes a common right subspace into each update's own: 0 independent, 1 the same.
    """
    rng = generator(seed)
    r = min(d_out, d_in)

    def gaussian(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=rng, dtype=torch.float64)

    common = gaussian(d_in, r)
    singular = torch.arange(1, r + 1, dtype=torch.float64) ** -decay
    stack = []
    for _ in range(m):
        left = torch.linalg.qr(gaussian(d_out, r))[0]
        right = torch.linalg.qr(overlap * common + (1 - overlap) * gaussian(d_in, r))[0]
        stack.append((left * singular) @ right.mT * (norm / singular.norm()))
    return torch.stack(stack).to(dtype)


def low_rank_updates(
    m: int, d_out: int, d_in: int, rank: int, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[LowRank]:
    """m factored updates of Frobenius norm near one."""
    rng = generator(seed)

    def factor(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    scale = (d_out * d_in * rank) ** -0.5
    return [LowRank((scale * factor(d_out, rank)).to(dtype), factor(rank, d_in).to(dtype)) for _ in range(m)]


def covariances(m: int, n: int, *, smallest: float = 1e-3, seed: int = 0) -> Tensor:
    """(m, n, n) positive definite, float64, eigenvalues spread geometrically from ``smallest`` to 1."""
    values = torch.logspace(0, torch.log10(torch.tensor(smallest)).item(), n, dtype=torch.float64)
    stack = []
    for index in range(m):
        q = orthogonal(n, 1000 * seed + index)
        stack.append((q * values) @ q.mT)
    return torch.stack(stack)


def dense_metric(metric: Metric) -> Tensor:
    """𝓑 + ρI as (d_in, d_in)."""
    identity = torch.eye(metric.basis_iu.shape[0], dtype=metric.basis_iu.dtype)
    return metric.times_power(identity, 1.0)
