"""The probe loss of one task as a differentiable function of a model's weights.

Shape suffixes: b batch, a labelled tail, v vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gcwm_viz.probes.batches import IGNORED, Row, batches_of, pad_of
from gcwm_viz.probes.behaviour import keeps_tail, tail_logits
from gcwm_viz.probes.encoding import Encoder, Request
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, TextTask

LossTask: TypeAlias = PromptTask | ChoiceTask | TextTask
"""The kinds of task with a loss of their own; those of lm-evaluation-harness have none here."""
TOKENS = 2**11
"""Tokens of a batch at most: a backward pass keeps the hidden states of every layer."""


class TaskLoss:
    """L = mean over examples of the NLL per token, in nats: the metric ``nll`` of the task.

    Of a prompt the NLL of its answer, of a choice that of the right one; of texts the NLL of all tokens over their
    number.

    Raises InputError as :class:`~gcwm_viz.probes.encoding.Encoder` does.
    """

    def __init__(self, tokenizer: Any, task: LossTask, batch_size: int = 64) -> None:
        self.task = task
        requests = [self._request(task, k, own) for k, own in enumerate(Encoder(tokenizer).requests(task))]
        lengths = torch.tensor([len(end) for _, end in requests], dtype=torch.float64)
        # Every token's weight in L.
        texts = isinstance(task, TextTask)
        weights = 1 / lengths.sum().expand_as(lengths) if texts else 1 / (lengths * len(lengths))
        rows = [Row(k, start, end) for k, (start, end) in enumerate(requests)]
        self._batches = batches_of(rows, batch_size, len(tokenizer), pad_of(tokenizer), TOKENS)
        self._weights = [weights[batch.rows].float() for batch in self._batches]

    def parts(self, model: torch.nn.Module, device: torch.device) -> Iterator[Tensor]:
        """Terms of L, one a batch, each a scalar with its own graph, for ``backward`` before the next is computed."""
        keeps = keeps_tail(model)
        for batch, weights_b in zip(self._batches, self._weights, strict=True):
            logits_bav = tail_logits(model, batch, device, keeps)
            labels_ba = batch.labels_bl[:, -batch.tail :].to(logits_bav.device)
            labelled_ba = labels_ba != IGNORED
            losses_n = self._losses(logits_bav[labelled_ba], labels_ba[labelled_ba])
            weights_n = weights_b.to(losses_n.device)[:, None].expand(labelled_ba.shape)[labelled_ba]
            yield (losses_n * weights_n).sum()

    @staticmethod
    def _request(task: LossTask, example: int, requests: list[Request]) -> Request:
        """Of an example's requests the one that is scored: context, and the tokens whose losses count."""
        return requests[task.answers[example]] if isinstance(task, ChoiceTask) else requests[0]

    @staticmethod
    def _losses(logits_nv: Tensor, labels_n: Tensor) -> Tensor:
        """(n,) in nats."""
        return logits_nv.logsumexp(1) - logits_nv.gather(1, labels_n[:, None])[:, 0]


class TaskEntropy(TaskLoss):
    """Mean entropy of the next-token distribution, in nats, where the model begins its answer: lower = more certain.

    Of a prompt or a question with choices that is one position, after its last token; of texts every predicted one. No
    answer is read: AdaMerging's objective (arXiv 2310.02575) on a language model.
    """

    @staticmethod
    def _request(task: LossTask, example: int, requests: list[Request]) -> Request:
        start, end = requests[0]
        return (start, end) if isinstance(task, TextTask) else (start, end[:1])

    @staticmethod
    def _losses(logits_nv: Tensor, labels_n: Tensor) -> Tensor:
        log_p_nv = logits_nv.log_softmax(1)
        return -(log_p_nv.exp() * log_p_nv).sum(1)
