"""Exact match, accuracy and negative log-likelihood, from one teacher-forced pass over all that is asked.

If every token of the answer and of the closing EOS is the argmax given the true prefix, greedy decoding writes exactly
this answer and stops; if one is not, it writes something else. So exact match needs no decoding. What comes before an
answer, choice or text, and which tokens are scored: ``encoding``.

Shape suffixes: b batch, l sequence length, a labelled tail (the last positions of the batch), v vocabulary, n examples.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.probes.encoding import Encoder, Request
from gcwm_viz.probes.harness import harness_values
from gcwm_viz.probes.tasks import ChoiceTask, HarnessTask, PromptTask, Task, TextTask
from gcwm_viz.probes.values import TaskValues, ratio_values

IGNORED = -100
# A batch holds no more than this, so that long texts and large vocabularies do not fill the memory.
MAX_LOGITS = 2**26
MAX_TOKENS = 2**14


@dataclass(frozen=True)
class Batch:
    """Right-padded rows of similar length. `rows` are their places in the flat list of all rows. `others`: (row in
    the batch, place in the tail, token, request) of requests that differ from a row's in the last token alone."""

    rows: Tensor
    ids_bl: Tensor
    mask_bl: Tensor
    labels_bl: Tensor
    tail: int
    others: list[tuple[int, int, int, int]]


@dataclass(frozen=True)
class _Row:
    """A request to run through the model, and those that the same pass answers: (last token, request)."""

    request: int
    start: list[int]
    end: list[int]
    others: list[tuple[int, int]]

    @property
    def length(self) -> int:
        return len(self.start) + len(self.end)


class BehaviourProbe:
    """Tasks encoded once, to be scored on many checkpoints of one architecture.

    Raises InputError when a prompt or an answer has no tokens, naming task and example.
    """

    def __init__(self, tokenizer: Any, tasks: Sequence[Task], batch_size: int = 64) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, found {batch_size}")
        self.tasks = list(tasks)
        self.tokenizer = tokenizer
        encoder = Encoder(tokenizer)
        self._asked = [[] if isinstance(task, HarnessTask) else encoder.requests(task) for task in self.tasks]
        pad = tokenizer.pad_token_id
        self._pad = int(pad if pad is not None else tokenizer.eos_token_id or 0)
        self.batches: list[Batch] = []
        self._requests = 0
        rows = [self._rows(asked) for asked in self._asked]
        # Kinds apart: a text's labels begin at its second token, and a batch shares the length of its tail.
        for kind in (PromptTask, ChoiceTask, TextTask):
            alike = [row for task, part in zip(self.tasks, rows, strict=True) if isinstance(task, kind) for row in part]
            self.batches += self._batches(alike, batch_size, len(tokenizer))

    def _rows(self, asked: list[list[Request]]) -> list[_Row]:
        """Requests of one task, those of an example that differ in the last token alone in one row."""
        rows: list[_Row] = []
        for requests in asked:
            same: dict[tuple[int, ...], _Row] = {}
            for start, end in requests:
                place = (*start, -1, *end[:-1])
                if place in same:
                    same[place].others.append((end[-1], self._requests))
                else:
                    same[place] = _Row(self._requests, start, end, [])
                self._requests += 1
            rows += same.values()
        return rows

    def _batches(self, rows: list[_Row], size: int, vocabulary: int) -> list[Batch]:
        # Rows of like length share a batch: little padding, and a short tail of logits.
        order = sorted(rows, key=lambda row: (row.length, len(row.start)))
        parts: list[list[_Row]] = []
        for row in order:
            grown = [*parts[-1], row] if parts else [row]
            tail = row.length - min(len(other.start) for other in grown) + 1
            fits = len(grown) * row.length <= MAX_TOKENS and len(grown) * tail * vocabulary <= MAX_LOGITS
            if parts and len(grown) <= size and fits:
                parts[-1] = grown
            else:
                parts.append([row])
        return [self._batch(part) for part in parts]

    def _batch(self, rows: list[_Row]) -> Batch:
        length = max(row.length for row in rows)
        ids = torch.full((len(rows), length), self._pad)
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

    @torch.no_grad()
    def measure(self, model: torch.nn.Module, device: str | torch.device = "cpu") -> list[TaskValues]:
        """Values of every example of every task, in task order.

        Prompts and answers give "em" and "nll", choices "acc" and the "nll" of the right one, texts "ppl" and "nll",
        harness tasks what they measure; unit and direction of each: ``metrics``. The NLL of an answer or choice is
        its mean over tokens (with EOS where one closes it). Choices by letter compare probabilities, choices by text
        log-probabilities over the choice's length in characters; the first of equals counts. Raises InputError for a
        task that does not fit into the model.
        """
        was_training = model.training
        model.eval()
        exact, nll = self._pass(model, device)
        found = []
        first = 0
        for task, asked in zip(self.tasks, self._asked, strict=True):
            if isinstance(task, HarnessTask):
                found.append(TaskValues(task.name, task.split, harness_values(task, model, self.tokenizer)))
                continue
            count = sum(len(requests) for requests in asked)
            part = slice(first, first + count)
            first += count
            tokens = torch.tensor([len(end) for requests in asked for _, end in requests], dtype=torch.float64)
            found.append(TaskValues(task.name, task.split, _values(task, exact[part], nll[part], tokens)))
        model.train(was_training)
        return found

    def _pass(self, model: torch.nn.Module, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """(exact, nll) of every request, float64 on the CPU: 1 or 0, and nats per token."""
        self.check_length(model)
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        exact, nll = (torch.full((self._requests,), math.nan, dtype=torch.float64) for _ in range(2))
        for batch in self.batches:
            # Position t predicts token t+1, so the tail of labels needs one position more in front.
            keep = {"logits_to_keep": batch.tail + 1} if keeps else {}
            logits = model(
                input_ids=batch.ids_bl.to(device), attention_mask=batch.mask_bl.to(device), use_cache=False, **keep
            ).logits
            logits_bav = logits[:, -(batch.tail + 1) : -1].float()
            labels_ba = batch.labels_bl[:, -batch.tail :].to(logits_bav.device)
            exact[batch.rows], nll[batch.rows] = _examples(logits_bav, labels_ba)
            if batch.others:
                k, place, token, request = torch.tensor(batch.others).unbind(1)
                at = k.to(logits_bav.device), place.to(logits_bav.device)
                own, other = (
                    logits_bav[*at, ids].cpu().double() for ids in (labels_ba[at], token.to(labels_ba.device))
                )
                # log p of two tokens at one place differ as their logits do.
                nll[request] = nll[batch.rows[k]] + (own - other) / (batch.labels_bl[k] != IGNORED).sum(1)
        return exact, nll

    def check_length(self, model: torch.nn.Module) -> None:
        """Raises InputError for an example that is longer than the model takes, naming task and example."""
        limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        for task, asked in zip(self.tasks, self._asked, strict=True):
            for example, requests in enumerate(asked, start=1):
                longest = max(len(start) + len(end) for start, end in requests)
                if isinstance(limit, int) and longest > limit:
                    raise InputError(
                        f"task {task.name!r} ({task.split}), example {example}: expected at most {limit} tokens (the "
                        f"model's limit), found {longest}"
                    )

    def score(self, model: torch.nn.Module, device: str | torch.device = "cpu") -> list[dict[str, Any]]:
        """Rows {task, split, metric, value, se, n} of :meth:`measure`: means over examples and their errors."""
        return [row for values in self.measure(model, device) for row in values.rows()]


def _values(task: Task, exact: Tensor, nll: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Values by metric from those of the task's requests, (requests,) each."""
    if isinstance(task, PromptTask):
        return {"em": exact, "nll": nll}
    if isinstance(task, TextTask):
        per_token = ratio_values(nll * tokens, tokens)
        perplexity = per_token.mean().exp()
        return {"ppl": perplexity * (1 + per_token - per_token.mean()), "nll": per_token}
    assert isinstance(task, ChoiceTask)
    by_length = task.style.scoring == "text"
    right, own = [], []
    first = 0
    for choices, answer in zip(task.choices, task.answers, strict=True):
        part = slice(first, first + len(choices))
        first += len(choices)
        losses = nll[part] * tokens[part]
        if by_length:
            losses = losses / torch.tensor([len(choice) for choice in choices], dtype=torch.float64)
        right.append(math.nan if losses.isnan().any() else float(int(losses.argmin()) == answer))
        own.append(float(nll[part][answer]))
    return {"acc": torch.tensor(right, dtype=torch.float64), "nll": torch.tensor(own, dtype=torch.float64)}


def _examples(logits_bav: Tensor, labels_ba: Tensor) -> tuple[Tensor, Tensor]:
    """(exact, nll) of a batch, (b,) float64 on the CPU, from −log p = log Σ exp(logits) − logit of the label.

    logsumexp adds short sums up to longer ones. PyTorch's cross_entropy adds the vocabulary one term after the other,
    in float32 on a CPU: that loses 2e-4 nats at 152k tokens with transposed logits, and 1e-5 with rows as they are.
    """
    asked_ba = labels_ba != IGNORED
    logits_nv, labels_n = logits_bav[asked_ba], labels_ba[asked_ba]
    losses_n = logits_nv.logsumexp(1).cpu().double() - logits_nv.gather(1, labels_n[:, None])[:, 0].cpu().double()
    least_n, most_n = logits_nv.aminmax(dim=1)  # finite where all are, without a copy of them
    finite_n, right_n = (least_n.isfinite() & most_n.isfinite()).cpu(), (logits_nv.argmax(1) == labels_n).cpu()
    asked_ba = asked_ba.cpu()
    losses_ba = torch.zeros(asked_ba.shape, dtype=torch.float64)
    losses_ba[asked_ba] = losses_n.masked_fill(~finite_n, math.nan)
    wrong_ba = torch.zeros_like(asked_ba)
    wrong_ba[asked_ba] = ~right_n
    nll_b = losses_ba.sum(1) / asked_ba.sum(1)
    return (~wrong_ba.any(1)).double().masked_fill(nll_b.isnan(), math.nan), nll_b
