"""Examples, and the seeded draws that generate them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Example = tuple[str, str]
"""(prompt, answer)"""
T = TypeVar("T")
Row = TypeVar("Row", bound=tuple[str, ...])

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def seeded(seed: int, *labels: str) -> torch.Generator:
    """A separate generator for each purpose, so that adding one does not change another.

    The batches of a task depend on the seed and its name alone, so the first step of a sequence is the expert.
    """
    digest = hashlib.sha256("/".join([str(seed), *labels]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


class Draw:
    """Random choices, all from one torch.Generator.

    Uniform numbers are drawn in blocks, since a torch call for every character would take a second a task.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self._block: list[float] = []

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both included."""
        if not self._block:
            self._block = torch.rand(1 << 14, generator=self.generator, dtype=torch.float64).tolist()
        return low + int(self._block.pop() * (high - low + 1))

    def choice(self, items: Sequence[T]) -> T:
        return items[self.integer(0, len(items) - 1)]

    def text(self, alphabet: str, low: int, high: int) -> str:
        """A string of low to high characters of `alphabet`, repetition allowed."""
        return "".join(self.choice(alphabet) for _ in range(self.integer(low, high)))

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [items[i] for i in torch.randperm(len(items), generator=self.generator).tolist()]


def distinct(make: Callable[[Draw], Row], draw: Draw, count: int) -> list[Row]:
    """`count` rows that differ in their first field, or fewer where `make` gives no more in 20 · `count` draws."""
    rows: dict[str, Row] = {}
    for _ in range(20 * count):
        row = make(draw)
        rows.setdefault(row[0], row)
        if len(rows) == count:
            break
    return list(rows.values())
