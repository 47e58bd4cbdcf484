"""One tensor at a time from a safetensors file; the file is open only while it is read."""

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.errors import InputError

# Rows are read in slices of about this many elements where a whole tensor is not needed at once.
SLICE_ELEMENTS = 1 << 21


def read_tensor(info: TensorInfo, rows: slice | None = None) -> Tensor:
    """The tensor in its own dtype and stored layout, or the given ``rows`` of it (step 1).

    The result owns its memory: the library's tensors are views into a mapping of the file, which would keep the
    whole shard mapped for as long as one of them lives. Raises InputError for a file that changed since its header
    was read and for a NaN or infinite value, naming the tensor.
    """
    try:
        with safe_open(info.path, framework="pt", device="cpu") as file:
            if rows is None:
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
    if info.is_floating:
        check_finite(tensor, f"{info.path}: tensor {info.name!r}")
    return tensor


def row_slices(info: TensorInfo) -> list[slice]:
    """Slices over the first dimension that cover a tensor of at least one dimension, each of bounded size."""
    rows = info.shape[0]
    step = max(1, SLICE_ELEMENTS // max(1, info.parameters // max(1, rows)))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def check_finite(tensor: Tensor, where: str) -> None:
    """Raises InputError with the count and the first place when ``tensor`` holds a NaN or infinite value."""
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), SLICE_ELEMENTS):
        finite = torch.isfinite(flat[start : start + SLICE_ELEMENTS])
        if not bool(finite.all()):
            first = start + int((~finite).int().argmax())
            place = tuple(int(i) for i in torch.unravel_index(torch.tensor(first), tensor.shape))
            kind = "NaN" if bool(flat[first].isnan()) else "an infinite value"
            raise InputError(f"{where} holds {kind} at {place}, expected finite values only")
