"""What a model does: greedy exact match and negative log-likelihood of given answers, from one teacher-forced pass.

If every token of the answer and of the closing EOS is the argmax given the true prefix, greedy decoding writes exactly
this answer and stops; if one is not, it writes something else. So exact match needs no decoding.

Prompt and answer are tokenised apart, encode(prompt) ++ encode(answer) ++ EOS: no token straddles the boundary, and
the prompt is tokenised as it would be when a user sends it.

Shape suffixes: b batch, l sequence length, a labelled tail (the last positions of the batch), v vocabulary.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gcwm_viz.errors import InputError
from gcwm_viz.probes.tasks import PromptTask

IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """Right-padded rows of similar length. `rows` are their places in the flat list of all examples."""

    rows: Tensor
    ids_bl: Tensor
    mask_bl: Tensor
    labels_bl: Tensor
    tail: int


def encode_prompt(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of a prompt with the tokenizer's own opening tokens and without a closing EOS."""
    ids = list(tokenizer(prompt, add_special_tokens=True)["input_ids"])
    if len(ids) > 1 and tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    """Token ids of an answer and EOS. Without an EOS in the tokenizer the answer stands alone (a prefix match)."""
    ids = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
    return ids if tokenizer.eos_token_id is None else [*ids, int(tokenizer.eos_token_id)]


class BehaviourProbe:
    """Tasks encoded once, to be scored on many checkpoints of one architecture.

    Raises InputError when a prompt or an answer has no tokens, naming task and example.
    """

    def __init__(self, tokenizer: Any, tasks: Sequence[PromptTask], batch_size: int = 64) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, found {batch_size}")
        self.tasks = list(tasks)
        pairs = []
        for task in self.tasks:
            for i, (prompt, answer) in enumerate(zip(task.prompts, task.answers, strict=True)):
                start, end = encode_prompt(tokenizer, prompt), encode_answer(tokenizer, answer)
                if not start or not end:
                    raise InputError(
                        f"task {task.name!r} ({task.split}), example {i + 1}: expected at least one token each in "
                        f"prompt and answer, found {len(start)} and {len(end)}"
                    )
                pairs.append((start, end))
        pad = tokenizer.pad_token_id
        self._pad = int(pad if pad is not None else tokenizer.eos_token_id or 0)
        self.longest = max((len(p) + len(a) for p, a in pairs), default=0)
        self.batches = self._batches(pairs, batch_size)

    def _batches(self, pairs: list[tuple[list[int], list[int]]], size: int) -> list[Batch]:
        # Rows of like length share a batch: little padding, and a short tail of logits.
        order = sorted(range(len(pairs)), key=lambda i: (len(pairs[i][0]) + len(pairs[i][1]), len(pairs[i][0])))
        batches = []
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            length = max(len(pairs[i][0]) + len(pairs[i][1]) for i in rows)
            ids = torch.full((len(rows), length), self._pad)
            mask = torch.zeros((len(rows), length), dtype=torch.int64)
            labels = torch.full((len(rows), length), IGNORED)
            for k, i in enumerate(rows):
                start, end = pairs[i]
                stop = len(start) + len(end)
                ids[k, :stop] = torch.tensor(start + end)
                mask[k, :stop] = 1
                labels[k, len(start) : stop] = torch.tensor(end)
            tail = length - min(len(pairs[i][0]) for i in rows)
            batches.append(Batch(torch.tensor(rows), ids, mask, labels, tail))
        return batches

    @torch.no_grad()
    def examples(self, model: torch.nn.Module, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
        """(exact, nll), each (n,) float64 on the CPU in task order: 1 or 0, and nats per answer token.

        Both are NaN for an example on which the model's logits are not finite.
        """
        limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        if isinstance(limit, int) and self.longest > limit:
            raise InputError(f"probes: expected at most {limit} tokens (the model's limit), found {self.longest}")
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        total = sum(len(task) for task in self.tasks)
        exact, nll = (torch.full((total,), math.nan, dtype=torch.float64) for _ in range(2))
        was_training = model.training
        model.eval()
        for batch in self.batches:
            # Position t predicts token t+1, so the tail of labels needs one position more in front.
            keep = {"logits_to_keep": batch.tail + 1} if keeps else {}
            logits = model(
                input_ids=batch.ids_bl.to(device), attention_mask=batch.mask_bl.to(device), use_cache=False, **keep
            ).logits
            logits_bav = logits[:, -(batch.tail + 1) : -1].float()
            labels_ba = batch.labels_bl[:, -batch.tail :].to(logits_bav.device)
            exact[batch.rows], nll[batch.rows] = _examples(logits_bav, labels_ba)
        model.train(was_training)
        return exact, nll

    def score(self, model: torch.nn.Module, device: str | torch.device = "cpu") -> list[dict[str, Any]]:
        """Rows {task, split, metric, value, se, n}: "em" in [0,1], higher is better, and "nll" ≥ 0, lower is better.

        The NLL is the mean over an answer's tokens (with EOS), then over examples; se is the standard error of the
        mean over examples (NaN for one example).
        """
        exact, nll = self.examples(model, device)
        rows = []
        first = 0
        for task in self.tasks:
            part = slice(first, first + len(task))
            first += len(task)
            for metric, values in (("em", exact[part]), ("nll", nll[part])):
                rows.append({"task": task.name, "split": task.split, "metric": metric, **_summary(values)})
        return rows


def score_tasks(
    model: torch.nn.Module,
    tokenizer: Any,
    tasks: Sequence[PromptTask],
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> list[dict[str, Any]]:
    """`BehaviourProbe(...).score(model)` for a single checkpoint."""
    return BehaviourProbe(tokenizer, tasks, batch_size).score(model, device)


def _examples(logits_bav: Tensor, labels_ba: Tensor) -> tuple[Tensor, Tensor]:
    asked_ba = labels_ba != IGNORED
    right_b = ((logits_bav.argmax(-1) == labels_ba) | ~asked_ba).all(1)
    losses_ba = cross_entropy(logits_bav.transpose(1, 2), labels_ba, ignore_index=IGNORED, reduction="none")
    nll_b = losses_ba.double().sum(1) / asked_ba.sum(1)
    finite_b = (logits_bav.isfinite().all(-1) | ~asked_ba).all(1)
    nan = torch.tensor(math.nan, dtype=torch.float64)
    return torch.where(finite_b.cpu(), right_b.double().cpu(), nan), torch.where(finite_b.cpu(), nll_b.cpu(), nan)


def _summary(values: Tensor) -> dict[str, Any]:
    n = len(values)
    se = float(values.std(correction=1)) / math.sqrt(n) if n > 1 else math.nan
    return {"value": float(values.mean()), "se": se, "n": n}
