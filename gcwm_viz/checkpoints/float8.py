"""Weights stored as 8-bit floats with scales: W = code · scale, a scale for each block, row or tensor.

Fine-grained FP8 (DeepSeek-V3, arXiv 2412.19437, section 3.3) stores ``NAME.weight_scale_inv`` for blocks, by default of
128 × 128; compressed-tensors stores ``NAME.weight_scale`` for a tensor or each of its rows.
"""

import math
from typing import Any

from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import check_finite, read_tensor
from gcwm_viz.errors import InputError

SCALES = ("weight_scale_inv", "weight_scale", "input_scale")
"""Ends of the names of scales; that of the activations belongs to no weight."""


def is_scale(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in SCALES


def scale_of(info: TensorInfo, index: CheckpointIndex) -> TensorInfo:
    """The scale of a weight. Raises InputError where it has none, or one whose shape does not divide the weight."""
    module = info.name.removesuffix(".weight")
    names = (f"{module}.{end}" for end in SCALES[:2])
    scale = next((index.tensors[name] for name in names if name in index.tensors), None)
    if scale is None:
        raise InputError(
            f"{info.path}: tensor {info.name!r} of dtype {info.dtype} has no scale, expected {module}.{SCALES[0]} or "
            f"{module}.{SCALES[1]} beside it"
        )
    _blocks(info, scale, index)
    return scale


def dequantised(info: TensorInfo, index: CheckpointIndex) -> Tensor:
    """The values of a weight, float32 in its stored layout. Raises InputError as :func:`scale_of` does, and for a value
    that is not finite."""
    scale = scale_of(info, index)
    factors = read_tensor(scale).float().reshape(scale.shape if scale.parameters > 1 else (1, 1))
    for dim, (size, block) in enumerate(zip(info.shape, _blocks(info, scale, index), strict=True)):
        factors = factors.repeat_interleave(block, dim).narrow(dim, 0, size)
    values = read_tensor(info).float()
    values *= factors
    check_finite(values, f"{info.path}: tensor {info.name!r}")
    return values


def _blocks(info: TensorInfo, scale: TensorInfo, index: CheckpointIndex) -> tuple[int, ...]:
    """Rows and columns that share a scale."""
    if len(info.shape) == 2 and scale.parameters == 1:
        return info.shape
    settings = index.config.get("quantization_config")
    sizes: Any = settings.get("weight_block_size") if isinstance(settings, dict) else None
    grid = scale.shape
    if len(grid) == len(info.shape) == 2:
        derived = tuple(math.ceil(size / count) for size, count in zip(info.shape, grid, strict=True) if count)
        blocks = tuple(sizes) if scale.name.endswith(SCALES[0]) and _is_sizes(sizes) else derived
        if len(blocks) == 2 and all(
            math.ceil(size / block) == count for size, block, count in zip(info.shape, blocks, grid, strict=True)
        ):
            return blocks
    raise InputError(
        f"{scale.path}: tensor {scale.name!r} has shape {grid}, expected a scale for each block, row or whole of "
        f"{info.name!r} of shape {info.shape}"
    )


def _is_sizes(sizes: object) -> bool:
    return isinstance(sizes, list) and len(sizes) == 2 and all(type(size) is int and size > 0 for size in sizes)
