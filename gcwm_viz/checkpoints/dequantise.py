"""A quantised checkpoint as one that can be merged: 8-bit floats, MXFP4 and GGUF, in bfloat16 or another dtype."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gcwm_viz.checkpoints.atomic import DTYPES
from gcwm_viz.checkpoints.float8 import dequantised, is_scale, scale_of
from gcwm_viz.checkpoints.gguf import convert
from gcwm_viz.checkpoints.header import FLOAT8, TensorInfo
from gcwm_viz.checkpoints.index import GGUF_SUFFIX, CheckpointIndex
from gcwm_viz.checkpoints.quantised import check_not_quantised
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.checkpoints.writer import export_checkpoint
from gcwm_viz.errors import InputError

CARD = """---
library_name: transformers
---

# Dequantised weights

The values that quantised weights stand for, as {dtype}; what quantisation rounded away is not restored.
"""
BLOCKS, SCALES = "_blocks", "_scales"
"""Ends of the names of the two tensors of MXFP4 (OCP Microscaling Formats 1.0) that gpt-oss stores for one weight."""


def dequantise(source: Path, out: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    """Write ``source`` dequantised to ``out``, which appears complete or not at all; one tensor in memory at a time, of
    a GGUF the whole model.

    Raises :class:`InputError` for weights that are not quantised, for another quantisation than 8-bit floats, MXFP4 and
    GGUF, and for an ``out`` that is not empty or lies inside ``source``.
    """
    if gguf := _gguf(source):
        return convert(gguf, out, dtype)
    index = CheckpointIndex.open(source)
    read: dict[str, Callable[[], Tensor]] = {}
    tensors: dict[str, TensorInfo] = {}
    for name, info in index.tensors.items():
        if info.dtype in FLOAT8:
            scale_of(info, index)
            read[name], tensors[name] = partial(dequantised, info, index), replace(info, dtype=DTYPES[dtype])
        elif _mxfp4(name, index):
            whole = name.removesuffix(BLOCKS)
            experts, rows, groups, codes = info.shape
            shape = (experts, groups * codes * 2, rows)
            read[whole] = partial(_unpacked, info, index.tensors[whole + SCALES])
            tensors[whole] = replace(info, name=whole, dtype=DTYPES[dtype], shape=shape)
        elif not (is_scale(name) or _mxfp4(name.removesuffix(SCALES) + BLOCKS, index)):
            tensors[name] = info
    check_not_quantised(replace(index, tensors={name: tensors[name] for name in tensors if name not in read}))
    if not read:
        raise InputError(
            f"{source}: these weights are not quantised, expected tensors of dtype {' or '.join(sorted(FLOAT8))}, "
            f"pairs NAME{BLOCKS} and NAME{SCALES}, or a GGUF file"
        )
    config = {key: value for key, value in index.config.items() if key != "quantization_config"}
    return export_checkpoint(
        replace(index, tensors=tensors),
        lambda name: read[name]() if name in read else None,
        out,
        model_card=CARD.format(dtype=str(dtype).removeprefix("torch.")),
        inputs=[source],
        beside={"config.json": config} if index.config_file else {},
    )


def _mxfp4(name: str, index: CheckpointIndex) -> bool:
    """Whether ``name`` holds the codes of a weight in MXFP4, with scales beside them."""
    info, scales = index.tensors.get(name), index.tensors.get(name.removesuffix(BLOCKS) + SCALES)
    if not name.endswith(BLOCKS) or info is None or scales is None:
        return False
    return info.dtype == scales.dtype == "U8" and len(info.shape) == 4 and scales.shape == info.shape[:3]


def _unpacked(blocks: TensorInfo, scales: TensorInfo) -> Tensor:
    """(experts, d_in, d_out) bfloat16, which holds every value of MXFP4 exactly."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    values: Tensor = convert_moe_packed_tensors(read_tensor(blocks), read_tensor(scales), dtype=torch.bfloat16)
    return values


def _gguf(source: Path) -> Path | None:
    """The one GGUF file at ``source``, or in a folder without safetensors."""
    if source.suffix == GGUF_SUFFIX:
        return source
    files = sorted(source.glob(f"*{GGUF_SUFFIX}")) if source.is_dir() else []
    if not files or next(source.glob("*.safetensors"), None) is not None:
        return None
    if len(files) > 1:
        raise InputError(f"{source}: expected one GGUF file, found {', '.join(file.name for file in files[:6])}")
    return files[0]
