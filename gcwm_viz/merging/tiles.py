"""How many rows of a matrix the inner solver works on at a time: a limit set around a computation, not a setting.

Rows of the solver's displacement are independent, so tiles change memory but not the result, up to rounding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

ADAM_ARRAYS = 5
"""Gradient, its value at the start, both moments, and a sum where the path is logged; besides the displacement."""

_LIMIT: ContextVar[int | None] = ContextVar("tile_bytes", default=None)


@contextmanager
def tile_bytes(limit: int | None) -> Iterator[None]:
    """Limit the solver's temporary arrays to ``limit`` bytes inside this block, at least one row; None = no limit."""
    token = _LIMIT.set(limit)
    try:
        yield
    finally:
        _LIMIT.reset(token)


def tile_rows(row_bytes: int) -> int | None:
    """Rows at a time under the limit in force, None without one. ``row_bytes``: of one row of one array."""
    limit = _LIMIT.get()
    return None if limit is None else max(1, limit // (ADAM_ARRAYS * row_bytes))
