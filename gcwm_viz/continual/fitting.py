"""Computing one matrix where memory suffices: on the device, there in tiles, or on the CPU."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch

from gcwm_viz.continual.transfer import settle, to_device
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.merging.tiles import tile_bytes
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.source import UpdateSource

Value = TypeVar("Value")

SMALLER_TILES = (2**28, 2**26)
"""Bytes of the inner solver's tiles to try where a device is too small for whole matrices."""

AHEAD = 3
"""A second matrix may wait on a GPU whose memory is at least so many times what one needs."""


def within_budget(budget: int | None, workers: int, need: int) -> tuple[int | None, int | None]:
    """(most workers at a time, bytes of the inner solver's tiles) for ``budget`` bytes of all workers together, of
    which one takes ``need``; at least one works. Without a budget neither is limited."""
    if budget is None:
        return None, None
    limit = max(1, min(workers, budget // max(need, 1)))
    return limit, budget // (4 * limit)


class Deltas:
    """The updates of one matrix as read, and their copies on the computing device, made ahead where it has room."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._read: dict[UpdateSource, Update | None] = {}
        self._on_device: dict[UpdateSource, Update | None] = {}

    def fetch(self, key: MatrixKey, sources: Sequence[UpdateSource], need: int) -> None:
        """``need``: bytes that the matrix takes when it is computed."""
        for source in sources:
            if source not in self._read:
                self._read[source] = source.delta(key)
        if _has_room(self.device, need):
            with suppress(torch.OutOfMemoryError):  # then it is copied when it is computed
                self.on(self.device, sources)

    def on(self, device: torch.device, sources: Sequence[UpdateSource]) -> list[Update | None]:
        if device != self.device:
            return [_moved(self._read[source], device) for source in sources]
        for source in sources:
            if source not in self._on_device:
                self._on_device[source] = _moved(self._read[source], device)
        return [self._on_device[source] for source in sources]

    def leave_device(self) -> None:
        self._on_device.clear()


def _has_room(device: torch.device, need: int) -> bool:
    """Whether a matrix may wait on a GPU while another is computed, by its total memory, not by what is free."""
    return device.type != "cuda" or AHEAD * need <= torch.cuda.get_device_properties(device).total_memory


def _moved(delta: Update | None, device: torch.device) -> Update | None:
    return None if delta is None else to_device(delta, device)


def fitted(
    key: MatrixKey,
    device: torch.device,
    tile: int | None,
    compute: Callable[[torch.device], Value],
    release: Callable[[], None],
) -> tuple[Value, str]:
    """``compute(device)`` or, where its memory does not suffice, the same in tiles and then on the CPU; with a remark
    where it was the CPU, else an empty one.

    ``tile``: bytes of the inner solver's tiles in the first place. ``release``: gives up what is cached on the device.
    Raises :class:`InputError`, naming the matrix, where the CPU has not the memory either.
    """

    def attempt(target: torch.device, limit: int | None) -> list[Value]:
        """Empty where memory runs out; by then every tensor of the attempt is free again."""
        try:
            with tile_bytes(limit):
                value = compute(target)
                settle(target)
                return [value]
        except torch.OutOfMemoryError:
            return []

    found = attempt(device, tile)
    for limit in SMALLER_TILES:
        if not found:
            _free(device, release)
            found = attempt(device, limit)
    if found:
        return found[0], ""
    _free(device, release)
    found = attempt(torch.device("cpu"), tile)
    if not found:
        raise InputError(f"matrix {key.name!r}: neither {device} nor the CPU has the memory for it")
    return found[0], f"on the CPU: {device} is too small"


def _free(device: torch.device, release: Callable[[], None]) -> None:
    release()
    if device.type == "cuda":
        torch.cuda.empty_cache()
