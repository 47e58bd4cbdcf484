"""Roots of symmetric positive semi-definite matrices: the only module that computes any.

Shape suffixes: … = any batch, n = size of the matrix.
"""

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh
from torch import Tensor

from gcwm_viz.linalg.threads import one_thread

PARTIAL_SIZE = 256
"""Below this size all eigenvectors cost no more than some."""

RESTARTS = 40
"""Most restarts of the Lanczos method; a full decomposition is cheaper than more."""


def symmetrize(a_nn: Tensor) -> Tensor:
    """The symmetric part of (…, n, n)."""
    return 0.5 * (a_nn + a_nn.mT)


def eigh_psd(a_nn: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Eigenvalues (…, n) ascending, none below ``floor``, and eigenvectors (…, n, n) of a PSD matrix.

    Rounding leaves eigenvalues slightly below zero; they are raised to ``floor``. A ``floor`` above zero changes the
    matrix: only the arithmetic of the released code, kept for reproducing its numbers, uses one.
    """
    values, vectors = torch.linalg.eigh(symmetrize(a_nn))
    return values.clamp_min(floor), vectors


def leading_eigh(a_nn: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest eigenvalues (k,) of a PSD matrix, descending, none below zero, with vectors (n, k).

    A Lanczos method (ARPACK's, restarted) computes only these, in a tenth of the time of all of them and less for
    large n; its products with single vectors run on the matrix's device. ‖AV − VΛ‖ and ‖VᵀV − I‖ are checked, and all
    are computed where the check fails, as it may for a flat spectrum or fewer than k eigenvalues above rounding.
    """
    n = a_nn.shape[0]
    if n >= PARTIAL_SIZE and 4 * count <= n:
        leading = _partial(a_nn, count)
        if leading is not None:
            return leading
    values, vectors = eigh_psd(a_nn)
    return values.flip(0)[:count], vectors.flip(1)[:, :count]


def _partial(a_nn: Tensor, count: int) -> tuple[Tensor, Tensor] | None:
    n = a_nn.shape[0]

    def product(x_n: np.ndarray) -> np.ndarray:
        return torch.mv(a_nn, torch.from_numpy(x_n).to(a_nn)).cpu().numpy()

    operator = LinearOperator((n, n), matvec=product, dtype=np.dtype(str(a_nn.dtype).removeprefix("torch.")))
    try:
        with one_thread():
            pairs = eigsh(operator, count, ncv=3 * count, v0=np.ones(n), tol=0, maxiter=RESTARTS, rng=0)
    except ArpackError:
        return None
    values, vectors = (torch.from_numpy(np.ascontiguousarray(part)).to(a_nn) for part in pairs)
    values, vectors = values.flip(0).clamp_min(0.0), vectors.flip(1)
    rounding = n * torch.finfo(a_nn.dtype).eps
    residual = torch.linalg.matrix_norm(a_nn @ vectors - vectors * values)
    deviation = torch.linalg.matrix_norm(vectors.mT @ vectors - torch.eye(count).to(a_nn))
    accurate = bool(residual <= rounding * values[0]) and bool(deviation <= rounding)
    return (values, vectors) if accurate else None


def sqrtm(a_nn: Tensor, floor: float = 0.0) -> Tensor:
    """Principal root of a PSD matrix (…, n, n)."""
    values, vectors = eigh_psd(a_nn, floor)
    return (vectors * values.sqrt().unsqueeze(-2)) @ vectors.mT


def powm(values_n: Tensor, vectors_nn: Tensor, power: float) -> Tensor:
    """V diag(values^power) Vᵀ from an eigendecomposition; a negative power needs positive eigenvalues."""
    return (vectors_nn * values_n.pow(power).unsqueeze(-2)) @ vectors_nn.mT
