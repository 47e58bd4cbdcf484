"""Requests in right-padded batches of similar length.

Shape suffixes: b batch, l sequence length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

IGNORED = -100
# Upper bounds of a batch, for long texts and large vocabularies.
MAX_LOGITS = 2**26
MAX_TOKENS = 2**14


@dataclass(frozen=True)
class Row:
    """A request to run through the model: context ``start`` and scored ``end``, as token ids. ``others``: (last token,
    request) of those that the same pass scores."""

    request: int
    start: list[int]
    end: list[int]
    others: list[tuple[int, int]] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.start) + len(self.end)


@dataclass(frozen=True)
class Batch:
    """Right-padded rows of similar length. `rows` are their requests' indices in the flat list of all requests.
    `others`: (row in the batch, position in the tail, token, request) of requests that differ from a row's in the last
    token alone."""

    rows: Tensor
    ids_bl: Tensor
    mask_bl: Tensor
    labels_bl: Tensor
    tail: int
    others: list[tuple[int, int, int, int]]


def batches_of(rows: Sequence[Row], size: int, vocabulary: int, pad: int, tokens: int = MAX_TOKENS) -> list[Batch]:
    """Batches of at most ``size`` rows and ``tokens`` tokens, or of one row. Rows of similar length share a batch:
    little padding, and a short tail of logits."""
    order = sorted(rows, key=lambda row: (row.length, len(row.start)))
    batches: list[list[Row]] = []
    for row in order:
        grown = [*batches[-1], row] if batches else [row]
        tail = row.length - min(len(other.start) for other in grown) + 1
        fits = len(grown) * row.length <= tokens and len(grown) * tail * vocabulary <= MAX_LOGITS
        if batches and len(grown) <= size and fits:
            batches[-1] = grown
        else:
            batches.append([row])
    return [_batch(own, pad) for own in batches]


def pad_of(tokenizer: object) -> int:
    """A token id for padding, whose value has no effect: padding is masked."""
    pad = getattr(tokenizer, "pad_token_id", None)
    return int(pad if pad is not None else getattr(tokenizer, "eos_token_id", None) or 0)


def _batch(rows: Sequence[Row], pad: int) -> Batch:
    length = max(row.length for row in rows)
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros((len(rows), length), dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORED)
    tail = length - min(len(row.start) for row in rows)
    others = []
    for k, row in enumerate(rows):
        ids[k, : row.length] = torch.tensor(row.start + row.end)
        mask[k, : row.length] = 1
        labels[k, len(row.start) : row.length] = torch.tensor(row.end)
        others += [(k, row.length - 1 - (length - tail), token, request) for token, request in row.others]
    return Batch(torch.tensor([row.request for row in rows]), ids, mask, labels, tail, others)
