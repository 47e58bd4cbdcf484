"""Exact match, accuracy and negative log-likelihood, from one teacher-forced pass over all requests.

Greedy decoding writes exactly the answer and stops if and only if every token of the answer and of the closing EOS is
the argmax given the true prefix, so exact match needs no decoding. The context of an answer, choice or text, and the
tokens that are scored: ``encoding``.

Shape suffixes: b batch, l sequence length, a labelled tail (the last positions of the batch), v vocabulary, n examples.
"""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.probes.batches import IGNORED, Batch, Row, batches_of, pad_of
from gcwm_viz.probes.encoding import Encoder, Request
from gcwm_viz.probes.harness import harness_values
from gcwm_viz.probes.prefix import keys_and_values
from gcwm_viz.probes.tasks import ChoiceTask, HarnessTask, PromptTask, Task, TextTask
from gcwm_viz.probes.values import TaskValues, ratio_values


class BehaviourProbe:
    """Tasks encoded once and scored on many checkpoints of one architecture.

    Raises InputError when a prompt or an answer has no tokens, naming task and example.
    """

    def __init__(self, tokenizer: Any, tasks: Sequence[Task], batch_size: int = 64) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, found {batch_size}")
        self.tasks = list(tasks)
        self.tokenizer = tokenizer
        encoder = Encoder(tokenizer)
        self._encoded = [[] if isinstance(task, HarnessTask) else encoder.requests(task) for task in self.tasks]
        self.batches: list[Batch] = []
        self._requests = 0
        rows = [self._rows(requests) for requests in self._encoded]
        # Kinds are batched apart: a text's labels begin at its second token, and a batch shares the length of its tail.
        for kind in (PromptTask, ChoiceTask, TextTask):
            alike = [row for task, own in zip(self.tasks, rows, strict=True) if isinstance(task, kind) for row in own]
            self.batches += batches_of(alike, batch_size, len(tokenizer), pad_of(tokenizer))

    def _rows(self, examples: list[list[Request]]) -> list[Row]:
        """Rows of one task; requests of an example that differ in the last token alone share a row."""
        rows: list[Row] = []
        for requests in examples:
            same: dict[tuple[int, ...], Row] = {}
            for start, end in requests:
                prefix = (*start, -1, *end[:-1])
                if prefix in same:
                    same[prefix].others.append((end[-1], self._requests))
                else:
                    same[prefix] = Row(self._requests, start, end)
                self._requests += 1
            rows += same.values()
        return rows

    @torch.no_grad()
    def measure(self, model: torch.nn.Module, device: str | torch.device = "cpu") -> list[TaskValues]:
        """Values of every example of every task, in task order.

        Prompts and answers give "em" and "nll", choices "acc" and the "nll" of the right one, texts "ppl" and "nll",
        harness tasks their own metrics; unit and direction of each: ``metrics``. The NLL of an answer or choice is
        its mean over tokens (with EOS where one closes it). Choices by letter compare probabilities, choices by text
        log-probabilities over the choice's length in characters; of equal ones the first counts. Raises InputError
        for an example that is longer than the model takes.
        """
        was_training = model.training
        model.eval()
        exact, nll = self._pass(model, device)
        measured = []
        first = 0
        for task, examples in zip(self.tasks, self._encoded, strict=True):
            if isinstance(task, HarnessTask):
                measured.append(TaskValues(task.name, task.split, harness_values(task, model, self.tokenizer)))
                continue
            tokens = torch.tensor([len(end) for requests in examples for _, end in requests], dtype=torch.float64)
            own = slice(first, first + len(tokens))
            first = own.stop
            measured.append(TaskValues(task.name, task.split, _values(task, exact[own], nll[own], tokens)))
        model.train(was_training)
        return measured

    def _pass(self, model: torch.nn.Module, device: str | torch.device) -> tuple[Tensor, Tensor]:
        """(exact, nll) of every request, float64 on the CPU: 1 or 0, and nats per token."""
        self.check_length(model)
        keeps = keeps_tail(model)
        exact, nll = (torch.full((self._requests,), math.nan, dtype=torch.float64) for _ in range(2))
        for batch in self.batches:
            logits_bav = tail_logits(model, batch, device, keeps)
            labels_ba = batch.labels_bl[:, -batch.tail :].to(logits_bav.device)
            exact[batch.rows], nll[batch.rows] = _examples(logits_bav, labels_ba)
            if batch.others:
                k, position, token, request = torch.tensor(batch.others).unbind(1)
                cells = k.to(logits_bav.device), position.to(logits_bav.device)
                own, other = (
                    logits_bav[*cells, ids].cpu().double() for ids in (labels_ba[cells], token.to(labels_ba.device))
                )
                # log p of two tokens at one position differ as their logits do.
                nll[request] = nll[batch.rows[k]] + (own - other) / (batch.labels_bl[k] != IGNORED).sum(1)
        return exact, nll

    def check_length(self, model: torch.nn.Module) -> None:
        """Raises InputError for an example that is longer than the model takes, naming task and example."""
        limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        for task, examples in zip(self.tasks, self._encoded, strict=True):
            for example, requests in enumerate(examples, start=1):
                longest = max(len(start) + len(end) for start, end in requests)
                if isinstance(limit, int) and longest > limit:
                    raise InputError(
                        f"task {task.name!r} ({task.split}), example {example}: expected at most {limit} tokens (the "
                        f"model's limit), found {longest}"
                    )

    def score(self, model: torch.nn.Module, device: str | torch.device = "cpu") -> list[dict[str, Any]]:
        """Rows {task, split, metric, value, se, n} of :meth:`measure`: means over examples and their errors."""
        return [row for values in self.measure(model, device) for row in values.rows()]


def keeps_tail(model: torch.nn.Module) -> bool:
    """Whether the model computes the logits of the last positions alone when it is asked to."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def tail_logits(model: torch.nn.Module, batch: Batch, device: str | torch.device, keeps: bool) -> Tensor:
    """Logits (b, a, v) float32 of the positions that predict the tail; ``keeps``: of :func:`keeps_tail`.

    The prefix of a batch passes the model once, in one row, where the model keeps its keys and values alone; gradients
    go through it.
    """
    # Position t predicts token t+1, so the tail of labels needs the position before it too.
    keep = {"logits_to_keep": batch.tail + 1} if keeps else {}
    ids_bl, mask_bl, kept = batch.ids_bl.to(device), batch.mask_bl.to(device), {"use_cache": False}
    if batch.prefix:
        prefix_1l = torch.tensor([batch.prefix], device=ids_bl.device)
        prefix_bl = prefix_1l.expand(len(ids_bl), -1)
        mask_bl = torch.cat([torch.ones_like(prefix_bl), mask_bl], dim=1)
        cache = keys_and_values(model, prefix_1l, len(ids_bl), **({"logits_to_keep": 1} if keeps else {}))
        if cache is None:
            ids_bl = torch.cat([prefix_bl, ids_bl], dim=1)
        else:
            kept = {"use_cache": True, "past_key_values": cache}
    logits: Tensor = model(input_ids=ids_bl, attention_mask=mask_bl, **kept, **keep).logits
    return logits[:, -(batch.tail + 1) : -1].float()


def _values(task: Task, exact: Tensor, nll: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """Values by metric of one task; exact, nll, tokens: (requests,)."""
    if isinstance(task, PromptTask):
        return {"em": exact, "nll": nll}
    if isinstance(task, TextTask):
        per_token = ratio_values(nll * tokens, tokens)
        perplexity = per_token.mean().exp()
        return {"ppl": perplexity * (1 + per_token - per_token.mean()), "nll": per_token}
    assert isinstance(task, ChoiceTask)
    by_length = task.style.scoring == "text"
    correct, own = [], []
    first = 0
    for choices, answer in zip(task.choices, task.answers, strict=True):
        options = slice(first, first + len(choices))
        first = options.stop
        losses = nll[options] * tokens[options]
        if by_length:
            losses = losses / torch.tensor([len(choice) for choice in choices], dtype=torch.float64)
        correct.append(math.nan if losses.isnan().any() else float(int(losses.argmin()) == answer))
        own.append(float(nll[options][answer]))
    return {"acc": torch.tensor(correct, dtype=torch.float64), "nll": torch.tensor(own, dtype=torch.float64)}


def _examples(logits_bav: Tensor, labels_ba: Tensor) -> tuple[Tensor, Tensor]:
    """(exact, nll) of a batch, (b,) float64 on the CPU, from −log p = log Σ exp(logits) − logit of the label.

    logsumexp sums pairwise. PyTorch's cross_entropy sums the vocabulary term by term in float32 on a CPU, which loses
    2e-4 nats at 152k tokens with transposed logits, and 1e-5 with contiguous rows.
    """
    labelled_ba = labels_ba != IGNORED
    logits_nv, labels_n = logits_bav[labelled_ba], labels_ba[labelled_ba]
    losses_n = logits_nv.logsumexp(1).cpu().double() - logits_nv.gather(1, labels_n[:, None])[:, 0].cpu().double()
    least_n, most_n = logits_nv.aminmax(dim=1)  # finite where all logits are, without a copy
    finite_n, correct_n = (least_n.isfinite() & most_n.isfinite()).cpu(), (logits_nv.argmax(1) == labels_n).cpu()
    labelled_ba = labelled_ba.cpu()
    losses_ba = torch.zeros(labelled_ba.shape, dtype=torch.float64)
    losses_ba[labelled_ba] = losses_n.masked_fill(~finite_n, math.nan)
    wrong_ba = torch.zeros_like(labelled_ba)
    wrong_ba[labelled_ba] = ~correct_n
    nll_b = losses_ba.sum(1) / labelled_ba.sum(1)
    return (~wrong_ba.any(1)).double().masked_fill(nll_b.isnan(), math.nan), nll_b
