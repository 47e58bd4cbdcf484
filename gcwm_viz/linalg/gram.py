"""Products of a matrix with its own transpose, of which only half the entries are computed.

Shape suffixes: o = rows, i = columns of the matrix.
"""

from torch import Tensor

BLOCKS = 8
SMALLEST_BLOCK = 128
"""Narrower blocks of columns cost more in call overhead than symmetry saves."""


def add_gram(out_ii: Tensor, x_oi: Tensor) -> Tensor:
    """``out += XᵀX`` in place, in blocks of columns: the upper triangle, and the rest of the diagonal blocks.

    Complete it with :func:`mirror` after the last addition.
    """
    width = x_oi.shape[1]
    step = max(SMALLEST_BLOCK, -(-width // BLOCKS))
    for first in range(0, width, step):
        last = min(first + step, width)
        out_ii[first:last, first:].addmm_(x_oi[:, first:last].mT, x_oi[:, first:])
    return out_ii


def mirror(out_ii: Tensor) -> Tensor:
    """Copy the upper triangle below the diagonal, in place."""
    width = out_ii.shape[0]
    step = max(SMALLEST_BLOCK, -(-width // BLOCKS))
    for first in range(0, width, step):
        last = min(first + step, width)
        corner = out_ii[first:last, first:last]
        corner.copy_(corner.triu() + corner.triu(1).mT)
        out_ii[last:, first:last] = out_ii[first:last, last:].mT
    return out_ii
