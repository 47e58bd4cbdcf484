"""Copies between the CPU and a GPU beside what the GPU computes: pinned memory, and a stream each way.

On any other device they are plain copies. Results are the same to the bit; only the waiting differs.
"""

from contextlib import suppress
from functools import lru_cache

import torch
from torch import Tensor

from gcwm_viz.linalg.lowrank import LowRank, Update


def to_device(update: Update, device: torch.device) -> Update:
    """The update on ``device``, complete when this returns; work of other threads on a GPU goes on meanwhile."""
    if device.type != "cuda":
        return update.to(device=device)
    stream = _stream(device, "there")
    with torch.cuda.stream(stream):
        moved = (
            LowRank(*(_sent(part, device) for part in (update.left_or, update.right_ri)))
            if isinstance(update, LowRank)
            else _sent(update, device)
        )
    stream.synchronize()
    return moved


def to_host(x: Tensor) -> Tensor:
    """A copy on the CPU, of which nothing may be read before :func:`settle` when ``x`` is on a GPU."""
    if x.device.type != "cuda":
        return x.cpu()
    try:
        host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    except RuntimeError:  # no more memory can be pinned
        return x.cpu()
    stream = _stream(x.device, "back")
    stream.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(stream):
        host.copy_(x, non_blocking=True)
    x.record_stream(stream)
    return host


def settle(device: torch.device) -> None:
    """Wait until everything that was asked of a GPU has been computed and copied."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
        _stream(device, "back").synchronize()


def _sent(part: Tensor, device: torch.device) -> Tensor:
    with suppress(RuntimeError):  # where no more can be pinned the copy is a plain one
        part = part.contiguous().pin_memory()
    moved = part.to(device, non_blocking=True)
    moved.record_stream(torch.cuda.default_stream(device))  # it is used there, and must not be given away before
    return moved


def _stream(device: torch.device, way: str) -> torch.cuda.Stream:
    index = torch.cuda.current_device() if device.index is None else device.index
    return _stream_of(index, way)


@lru_cache(maxsize=64)
def _stream_of(index: int, way: str) -> torch.cuda.Stream:
    del way  # one stream each
    return torch.cuda.Stream(torch.device("cuda", index))
