"""Predictors that need probes: effects of an update on a task by gradients, divergence on prompts.

Shape suffixes: m = number of updates, n = examples, v = vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.attribution.gradients import MatrixGradients, SettableModel
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.batches import IGNORED, Row, batches_of, pad_of
from gcwm_viz.probes.behaviour import keeps_tail, tail_logits
from gcwm_viz.probes.encoding import Encoder
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.tasks import HarnessTask, PromptTask, Task


def first_order(model: SettableModel, loss: TaskLoss, changes: Sequence[Sequence[Update | None]]) -> Tensor:
    """⟨∇L, Δ_j⟩ (m,) in nats at the model's present weights, for m updates of its ``keys``; above zero = L rises.

    One backward pass; a matrix's gradient is freed as soon as it has been used.
    """
    return MatrixGradients(model, range(len(model.keys))).products(loss, changes)[1].sum(1)


class Effects:
    """What updates, given as changes of the model's ``keys``, do to tasks, by passes at the base and at base + Δ.

    The model must be the base when this is made. Without tasks that have a loss, and for a model that has its matrices
    in other forms than the checkpoint, there are no first-order effects (NaN); divergence is of tasks with prompts.
    """

    def __init__(
        self, model: SettableModel, tokenizer: Any, tasks: Sequence[Task], changes: Sequence[Sequence[Update | None]]
    ) -> None:
        self._model, self._changes = model, changes
        self._tasks = [task.name for task in tasks]
        with_loss = [task for task in tasks if not isinstance(task, HarnessTask)] if model.weights else []
        self.losses = {task.name: TaskLoss(tokenizer, task) for task in with_loss}
        self._at_base = {name: first_order(model, loss, changes) for name, loss in self.losses.items()}
        self._tokens = {task.name: FirstTokens(tokenizer, task) for task in tasks if isinstance(task, PromptTask)}
        self._before = {name: each.of(model.model, model.device) for name, each in self._tokens.items()}

    def of(self, j: int) -> dict[str, dict[str, float]]:
        """{kl_task, first_order_base} of update j by task; sets the model to base + Δ_j."""
        model = self._model
        model.set_updates(self._changes[j])
        after = {name: each.of(model.model, model.device) for name, each in self._tokens.items()}
        return {
            name: {
                "kl_task": divergence(self._before[name], after[name]) if name in after else math.nan,
                "first_order_base": float(self._at_base[name][j]) if name in self._at_base else math.nan,
            }
            for name in self._tasks
        }

    def at_present(self, task: str) -> Tensor:
        """First-order effects (m,) of every update on one task, at the model's present weights."""
        return first_order(self._model, self.losses[task], self._changes)


class FirstTokens:
    """log p of the first answer token after every prompt of a task, (n, v) float32; answers are not used."""

    def __init__(self, tokenizer: Any, task: PromptTask) -> None:
        requests = [own[0] for own in Encoder(tokenizer).requests(task)]
        rows = [Row(k, start, end[:1]) for k, (start, end) in enumerate(requests)]
        self._batches = batches_of(rows, 64, len(tokenizer), pad_of(tokenizer))
        self._n = len(rows)

    @torch.no_grad()
    def of(self, model: torch.nn.Module, device: torch.device) -> Tensor:
        keeps = keeps_tail(model)
        found: list[Tensor] = [torch.empty(0)] * self._n
        for batch in self._batches:
            logits_bav = tail_logits(model, batch, device, keeps)
            labelled_ba = batch.labels_bl[:, -batch.tail :].to(logits_bav.device) != IGNORED
            for row, logits_v in zip(batch.rows.tolist(), logits_bav[labelled_ba].log_softmax(-1).cpu(), strict=True):
                found[row] = logits_v
        return torch.stack(found)


def divergence(base_nv: Tensor, other_nv: Tensor) -> float:
    """Mean over examples of KL(p_base ‖ p_other) in nats, from log-probabilities."""
    return float((base_nv.exp() * (base_nv - other_nv)).sum(1).mean())
