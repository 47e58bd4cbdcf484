"""The interface of engines: independent pieces of work, each done once, reported as they finish."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Item = TypeVar("Item")
Value = TypeVar("Value")


class WorkerDiedError(RuntimeError):
    """A worker process ended without a message, for instance killed by the system for lack of memory."""


@dataclass(frozen=True)
class Worker:
    """A process or task that does the work: its ``name`` in the journal, and the device that it computes on.

    ``turn``: a lock that work under ``overlap`` holds while it computes on the device.
    """

    name: str
    device: torch.device
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)


class Engine(ABC):
    """Workers on this machine or on others; a context manager that releases them at its end.

    ``device``: the device of the workers, as a value of ``--device``.
    """

    device: str

    @property
    @abstractmethod
    def workers(self) -> int:
        """Number of items that can be computed at a time, at this moment."""

    @abstractmethod
    def unordered(
        self,
        work: Callable[[Worker, Item], Value],
        items: Sequence[Item],
        *,
        limit: int | None = None,
        memory: Callable[[Item], int] | None = None,
        overlap: bool = False,
    ) -> Iterator[tuple[Item, Value]]:
        """(item, work(worker, item)) as they finish; they are started in the order of ``items``.

        ``work`` must be picklable and computes with one thread, so that no number of workers changes its result.
        ``limit``: most items at a time. ``memory``: bytes that an item needs; fewer items are computed at a time where
        memory does not suffice, but at least one.
        ``overlap``: ``work`` holds ``worker.turn`` while it computes, so an engine may read and write one item on a
        device while it computes another.
        When an item fails, no other is started, running ones are finished and reported, and then its error is raised.
        Raises :class:`WorkerDiedError` when a worker dies and the engine cannot replace it.
        """

    def close(self) -> None:  # noqa: B027 (most engines hold no resources between two calls)
        """Release the workers."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
