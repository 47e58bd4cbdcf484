"""What every engine promises: independent pieces of work, each done once, reported as they finish."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Item = TypeVar("Item")
Value = TypeVar("Value")


class WorkerDiedError(RuntimeError):
    """A worker process ended without a message, as one does that the system kills for lack of memory."""


@dataclass(frozen=True)
class Worker:
    """Who does a piece of work: its ``name`` in the journal, and the device that it computes on.

    ``turn`` is held while computing there, by work that is begun with ``overlap``.
    """

    name: str
    device: torch.device
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)


class Engine(ABC):
    """Workers on this machine or on others; a context manager that lets go of them at its end.

    ``device``: what they compute on, as the option ``--device`` takes it.
    """

    device: str

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many pieces are computed at a time, as things stand now."""

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
        """(item, work(worker, item)) as they finish; they are begun in the order given.

        ``work`` must be picklable and computes with one thread, so that no number of workers changes its result.
        ``limit``: at most so many at a time. ``memory``: bytes that an item needs; fewer are computed at a time where
        that many bytes are not free, but at least one.
        ``overlap``: ``work`` holds ``worker.turn`` while it computes, so an engine may read and write one item on a
        device while it computes another.
        When an item fails, no other is begun, those under way are finished and reported, and then its error is
        raised. Raises :class:`WorkerDiedError` when a worker dies and the engine cannot make up for it.
        """

    def close(self) -> None:  # noqa: B027 (most engines hold nothing between two calls)
        """Let go of the workers."""

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
