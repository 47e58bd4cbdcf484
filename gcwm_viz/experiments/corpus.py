"""Pairs of prompt and answer as token ids, drawn in batches."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gcwm_viz.probes.encoding import Request

IGNORED = -100
"""Label of a token without loss: prompt and padding."""


class Corpus:
    """`ids` and `labels` are (pairs, length) int64, padded on the right with `pad` and IGNORED.

    Labels are the answer's tokens. `weights` (pairs,) are the relative odds of being drawn; None means equal.
    """

    def __init__(self, pairs: Sequence[Request], pad: int, weights: Tensor | None = None) -> None:
        self.lengths = torch.tensor([len(prompt) + len(answer) for prompt, answer in pairs])
        self.ids = torch.full((len(pairs), int(self.lengths.max())), pad)
        self.labels = torch.full_like(self.ids, IGNORED)
        for i, (prompt, answer) in enumerate(pairs):
            end = len(prompt) + len(answer)
            self.ids[i, :end] = torch.tensor(prompt + answer)
            self.labels[i, len(prompt) : end] = torch.tensor(answer)
        self.weights = weights

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(ids, labels) of `size` pairs drawn with replacement, cut to the longest of them."""
        if self.weights is None:
            rows = torch.randint(len(self), (size,), generator=generator)
        else:
            rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        width = int(self.lengths[rows].max())
        return self.ids[rows, :width], self.labels[rows, :width]
