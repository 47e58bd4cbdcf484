"""Squared norms of differences between stored tensors, and what half precision adds to them; float64, sliced."""

from collections.abc import Iterator

import torch
from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.reader import read_tensor, row_slices

# Stored significand bits and the smallest normal exponent of the half-precision formats.
HALF_PRECISION = {"BF16": (7, -126), "F16": (10, -14)}


def squared_sum(tensor: Tensor) -> float:
    """‖tensor‖_F² for any number of dimensions."""
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64).square())


def comparable(shape: tuple[int, ...], base: tuple[int, ...]) -> bool:
    """Equal shapes, or rows added to or cut from a table, as when a vocabulary is resized."""
    return shape == base or (len(shape) == len(base) == 2 and shape[1] == base[1])


def squared_difference(info: TensorInfo, base: TensorInfo) -> float:
    """‖θ − θ_pre‖_F² of one tensor over the rows both have, a bounded slice of rows at a time."""
    if not info.shape:
        return squared_sum(read_tensor(info).double() - read_tensor(base).double())
    total = 0.0
    for rows in row_slices(info if info.shape[0] <= base.shape[0] else base):
        total += squared_sum(read_tensor(info, rows).double() - read_tensor(base, rows).double())
    return total


def squared_change(name: str, info: TensorInfo, base: TensorInfo) -> Iterator[tuple[str, float]]:
    """``name`` with ``squared_difference``; nothing where their shapes or dtypes do not allow it."""
    if info.is_floating and base.is_floating and comparable(info.shape, base.shape):
        yield name, squared_difference(info, base)


def squared_rounding(info: TensorInfo) -> float:
    """Expected squared rounding error of a half-precision tensor, Σ ulp(θ)²/12; 0 for the wider formats.

    Rounding to nearest has a uniform error of at most half a unit in the last place.
    """
    if info.dtype not in HALF_PRECISION:
        return 0.0
    bits, smallest = HALF_PRECISION[info.dtype]
    total = 0.0
    for rows in row_slices(info):
        # frexp gives |x| in [0.5, 1)·2^e, so the unit in the last place is 2^(e − 1 − bits).
        exponent = torch.frexp(read_tensor(info, rows).float()).exponent.sub_(1).clamp_(min=smallest).sub_(bits)
        total += float(torch.exp2(2.0 * exponent.double()).sum()) / 12
    return total
