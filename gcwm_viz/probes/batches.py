"""Requests in right-padded batches of similar length, with what all rows of a batch begin with computed once.

Shape suffixes: b batch, l sequence length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import torch
from torch import Tensor

IGNORED = -100
# Upper bounds of a batch, for long texts and large vocabularies.
MAX_LOGITS = 2**26
MAX_TOKENS = 2**14
SHARED_TOKENS, SHARED_SHARE = 8, 1 / 8
"""A shared beginning is computed apart from so many tokens on, and where it saves this share of a batch's tokens."""


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
    token alone. `prefix`: tokens with which all rows begin, which are not in `ids_bl`, `mask_bl` and `labels_bl`."""

    rows: Tensor
    ids_bl: Tensor
    mask_bl: Tensor
    labels_bl: Tensor
    tail: int
    others: list[tuple[int, int, int, int]]
    prefix: list[int]

    @property
    def whole_shape(self) -> tuple[int, int]:
        """(b, l) with the prefix."""
        rows, length = self.ids_bl.shape
        return rows, len(self.prefix) + length


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
    prefix = _shared(rows)
    length = max(row.length for row in rows) - len(prefix)
    ids = torch.full((len(rows), length), pad)
    mask = torch.zeros((len(rows), length), dtype=torch.int64)
    labels = torch.full((len(rows), length), IGNORED)
    tail = length - min(len(row.start) for row in rows) + len(prefix)
    others = []
    for k, row in enumerate(rows):
        context = row.start[len(prefix) :]
        end = len(context) + len(row.end)
        ids[k, :end] = torch.tensor(context + row.end)
        mask[k, :end] = 1
        labels[k, len(context) : end] = torch.tensor(row.end)
        others += [(k, end - 1 - (length - tail), token, request) for token, request in row.others]
    return Batch(torch.tensor([row.request for row in rows]), ids, mask, labels, tail, others, prefix)


def _shared(rows: Sequence[Row]) -> list[int]:
    """What all contexts begin with, such as the system prompt of a chat template, where computing it once saves enough;
    at least one token of every context is left, which predicts the first that is scored."""
    columns = zip(*(row.start[:-1] for row in rows), strict=False)
    prefix = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    saved, tokens = len(prefix) * (len(rows) - 1), sum(row.length for row in rows)
    return prefix if len(prefix) >= SHARED_TOKENS and saved >= SHARED_SHARE * tokens else []
