"""One tensor at a time from a safetensors file; the file is open only while it is read."""

import json
import struct

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.location import is_remote, remote_bytes
from gcwm_viz.errors import InputError

# Rows are read in slices of about this many elements where a whole tensor is not needed at once.
SLICE_ELEMENTS = 1 << 21


def read_tensor(info: TensorInfo, rows: slice | None = None) -> Tensor:
    """The tensor in its own dtype and stored layout, or the given ``rows`` of it (step 1).

    The result owns its memory: the library's tensors are views into a mapping of the file, which would keep the
    whole shard mapped for as long as one of them lives. Raises InputError for a file that changed since its header
    was read and for a NaN or infinite value, naming the tensor.
    """
    tensor = _remote_tensor(info, rows) if is_remote(info.path) else _local_tensor(info, rows)
    if info.is_floating:
        check_finite(tensor, f"{info.path}: tensor {info.name!r}{'' if info.entry is None else f' [{info.entry}]'}")
    return tensor


def _local_tensor(info: TensorInfo, rows: slice | None) -> Tensor:
    try:
        with safe_open(info.path, framework="pt", device="cpu") as file:
            if info.entry is not None:
                start, stop, _ = (rows or slice(None)).indices(info.shape[0])
                tensor: Tensor = file.get_slice(info.name)[info.entry, info.first + start : info.first + stop].clone()
            elif rows is None:
                tensor = file.get_tensor(info.name).clone()
            else:
                tensor = file.get_slice(info.name)[rows].clone()
    except (SafetensorError, OSError, KeyError) as error:
        raise InputError(f"{info.path}: cannot read tensor {info.name!r} ({error})") from None
    expected = info.shape if rows is None else (len(range(*rows.indices(info.shape[0]))), *info.shape[1:])
    if tuple(tensor.shape) != expected:
        raise InputError(
            f"{info.path}: tensor {info.name!r} changed while in use, expected shape {expected}, "
            f"found {tuple(tensor.shape)}"
        )
    return tensor


def _remote_tensor(info: TensorInfo, rows: slice | None) -> Tensor:
    """Reads the bytes of the tensor alone, or of its ``rows``, and parses them under a header made for them."""
    shape, start, count = info.shape, 0, info.nbytes
    if rows is not None:
        first, stop, _ = rows.indices(info.shape[0])
        row = info.nbytes // info.shape[0] if info.shape[0] else 0
        shape, start, count = (max(0, stop - first), *info.shape[1:]), first * row, max(0, stop - first) * row
    try:
        data = remote_bytes(info.path, info.offset + start, count) if count else b""
    except OSError as error:
        raise InputError(f"{info.path}: cannot read tensor {info.name!r} ({error})") from None
    if len(data) != count:
        raise InputError(
            f"{info.path}: tensor {info.name!r} changed while in use, expected {count} bytes, found {len(data)}"
        )
    entry = {"dtype": info.dtype, "shape": list(shape), "data_offsets": [0, count]}
    header = json.dumps({"tensor": entry}).encode()
    header += b" " * (-len(header) % 8)
    return load(struct.pack("<Q", len(header)) + header + data)["tensor"].clone()


def row_slices(info: TensorInfo) -> list[slice]:
    """Slices over the first dimension that cover a tensor of at least one dimension, each of bounded size."""
    rows = info.shape[0]
    step = max(1, SLICE_ELEMENTS // max(1, info.parameters // max(1, rows)))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def check_finite(tensor: Tensor, where: str) -> None:
    """Raises InputError naming the first NaN or infinite value of ``tensor`` and its position."""
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), SLICE_ELEMENTS):
        finite = torch.isfinite(flat[start : start + SLICE_ELEMENTS])
        if not bool(finite.all()):
            first = start + int((~finite).int().argmax())
            position = tuple(int(i) for i in torch.unravel_index(torch.tensor(first), tensor.shape))
            kind = "NaN" if bool(flat[first].isnan()) else "an infinite value"
            raise InputError(f"{where} holds {kind} at {position}, expected finite values only")
