"""Roots of symmetric positive semi-definite matrices: the only place where the project takes one.

Shape suffixes: … = any batch, n = size of the matrix.
"""

import torch
from torch import Tensor


def symmetrize(a_nn: Tensor) -> Tensor:
    """The symmetric part of (…, n, n)."""
    return 0.5 * (a_nn + a_nn.mT)


def eigh_psd(a_nn: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Eigenvalues (…, n) ascending, none below ``floor``, and eigenvectors (…, n, n) of a PSD matrix.

    Rounding leaves eigenvalues slightly below zero; they are raised to ``floor``. A ``floor`` above zero changes the
    matrix: only the arithmetic of the released code, kept for reproducing its numbers, asks for one.
    """
    values, vectors = torch.linalg.eigh(symmetrize(a_nn))
    return values.clamp_min(floor), vectors


def sqrtm(a_nn: Tensor, floor: float = 0.0) -> Tensor:
    """Principal root of a PSD matrix (…, n, n)."""
    values, vectors = eigh_psd(a_nn, floor)
    return (vectors * values.sqrt().unsqueeze(-2)) @ vectors.mT


def powm(values_n: Tensor, vectors_nn: Tensor, power: float) -> Tensor:
    """V diag(values^power) Vᵀ from an eigendecomposition; a negative power needs positive eigenvalues."""
    return (vectors_nn * values_n.pow(power).unsqueeze(-2)) @ vectors_nn.mT
