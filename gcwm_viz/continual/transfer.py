"""Copies between CPU and GPU that overlap with the GPU's computation: pinned memory, and a stream per direction.

On any other device they are plain copies. Results are bitwise the same.
"""

from contextlib import suppress
from functools import lru_cache

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import LowRank, Update


def to_device(update: Update, device: torch.device) -> Update:
    """The update on ``device``, complete when this returns; other threads' work on a GPU continues meanwhile."""
    if device.type != "cuda":
        return update.to(device=device)
    stream = _stream(device, "to device")
    with torch.cuda.stream(stream):
        moved = (
            LowRank(*(_copied(part, device) for part in (update.left_or, update.right_ri)))
            if isinstance(update, LowRank)
            else _copied(update, device)
        )
    stream.synchronize()
    return moved


def to_host(x: Tensor) -> Tensor:
    """A copy on the CPU; when ``x`` is on a GPU it must not be read before :func:`settle`."""
    if x.device.type != "cuda":
        return x.cpu()
    try:
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    except RuntimeError:  # no more memory can be pinned
        return x.cpu()
    stream = _stream(x.device, "to host")
    stream.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(stream):
        host.copy_(x, non_blocking=True)
    x.record_stream(stream)
    return host


def settle(device: torch.device) -> None:
    """Wait until a GPU has finished all computations and copies."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
        _stream(device, "to host").synchronize()


def _copied(part: Tensor, device: torch.device) -> Tensor:
    with suppress(RuntimeError):  # a plain copy where no more memory can be pinned
        part = part.contiguous().pin_memory()
    moved = part.to(device, non_blocking=True)
    moved.record_stream(torch.cuda.default_stream(device))  # that stream must use the memory before it is reused
    return moved


def _stream(device: torch.device, direction: str) -> torch.cuda.Stream:
    index = torch.cuda.current_device() if device.index is None else device.index
    return _stream_of(index, direction)


@lru_cache(maxsize=64)
def _stream_of(index: int, direction: str) -> torch.cuda.Stream:
    del direction  # part of the key: one stream per direction
    return torch.cuda.Stream(torch.device("cuda", index))
