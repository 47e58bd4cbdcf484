"""Orders in which updates or tasks arrive."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations

import torch

from gcwm_viz.errors import InputError


def task_orders(
    names: Sequence[str], count: int, drawn: Iterable[Sequence[int]], what: str = "updates"
) -> list[tuple[str, ...]]:
    """The given order, then others without repetition. Raises :class:`InputError` beyond n!.

    ``drawn``: permutations of 0 … n − 1, by :func:`shuffles` or :func:`every_order`; ``what``: the things in order.
    """
    most = math.factorial(len(names))
    if not 1 <= count <= most:
        raise InputError(f"number of orders: expected 1 to {most} for {len(names)} {what}, found {count}")
    orders = {tuple(names): None}
    for permutation in drawn:
        if len(orders) == count:
            break
        orders[tuple(names[index] for index in permutation)] = None
    return list(orders)


# Two ways to draw, since results depend on each: those of sweeps, and those of the shipped study.


def shuffles(n: int, seed: int) -> Iterator[list[int]]:
    """Endless permutations drawn by ``seed``, with repetition, for any ``n``."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(n, generator=generator).tolist()


def every_order(n: int, generator: torch.Generator) -> Iterator[tuple[int, ...]]:
    """Each of the n! permutations once, in random order; all are listed, so for a small ``n``."""
    every = list(permutations(range(n)))
    for index in torch.randperm(len(every), generator=generator).tolist():
        yield every[index]
