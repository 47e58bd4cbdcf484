"""What several merges of one matrix have in common, computed once."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Value = TypeVar("Value")
Cache = dict[Hashable, tuple[object, Any]]

_CACHE: ContextVar[Cache | None] = ContextVar("geometry", default=None)


@contextmanager
def shared_geometry() -> Iterator[Cache]:
    """Inside this block the subspace of an update is computed once for all runs with the same ranks, and the geometry
    of a final merge once for all settings of the solver.

    The cache is keyed by identity, so it holds the updates until the block ends or the yielded cache is cleared.
    """
    cache: Cache = {}
    token = _CACHE.set(cache)
    try:
        yield cache
    finally:
        _CACHE.reset(token)


def shared(key: Hashable, of: object, compute: Callable[[], Value]) -> Value:
    """``compute()``, once a block for every ``key``, which names the objects ``of`` by ``id``."""
    cache = _CACHE.get()
    if cache is None:
        return compute()
    if key not in cache:
        cache[key] = of, compute()
    value: Value = cache[key][1]
    return value
