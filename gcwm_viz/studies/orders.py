"""Orders in which updates or tasks arrive."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

import torch

from gcwm_viz.errors import InputError


def task_orders(
    names: Sequence[str], count: int, drawn: Iterable[Sequence[int]], what: str = "updates"
) -> list[tuple[str, ...]]:
    """The order given, then others without repetition. Raises :class:`InputError` beyond n!.

    ``drawn``: permutations of 0 … n − 1, by :func:`shuffles` or :func:`every_order`; ``what``: what is ordered.
    """
    most = math.factorial(len(names))
    if not 1 <= count <= most:
        raise InputError(f"number of orders: expected 1 to {most} for {len(names)} {what}, found {count}")
    orders = {tuple(names): None}
    for places in drawn:
        if len(orders) == count:
            break
        orders[tuple(names[place] for place in places)] = None
    return list(orders)


# Two ways to draw, because each has orders behind results that exist: those of sweeps, and those of the shipped study.


def shuffles(n: int, seed: int) -> Iterator[list[int]]:
    """Permutations drawn one by one without end, for any ``n``; some come twice."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(n, generator=generator).tolist()


def every_order(n: int, generator: torch.Generator) -> Iterator[tuple[int, ...]]:
    """Each of the n! permutations once, shuffled; they are all listed, so for a small ``n``."""
    every = list(permutations(range(n)))
    for place in torch.randperm(len(every), generator=generator).tolist():
        yield every[place]
