"""The training loop of every experiment: base, experts, adapters and training pipelines.

A pipeline (Seq. SFT, EWC, replay, iterative merging, joint training) is this loop with its own corpus, start and hooks:
a hook may add a loss term before the backward pass and change the model after each optimiser step.

Shape suffixes: b batch, l sequence length, n scored tokens, d hidden, v vocabulary.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.corpus import IGNORED, Corpus
from gcwm_viz.probes.batches import SHARED_TOKENS
from gcwm_viz.probes.prefix import keys_and_values


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """AdamW with a linear warm-up and a cosine to zero; gradients clipped by their norm."""

    steps: int
    batch_size: int = 64
    lr: float = 6e-4
    warmup: int = 10
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ValueError(f"steps and batch_size must be at least 1, found {self.steps} and {self.batch_size}")

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, … steps − 1."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * progress))


def answer_loss(
    model: Any, ids_bl: Tensor, labels_bl: Tensor, *, reduction: str = "mean", labelled_only: bool = False
) -> Tensor:
    """Cross-entropy over the labelled tokens of a batch, their mean or (reduction "sum") their sum.

    `labelled_only` computes logits at the labelled positions alone, for large vocabularies; its rounding differs. No
    attention mask: padding is on the right, out of reach of causal attention.
    """
    targets_bl = labels_bl[:, 1:]
    if labelled_only:
        labelled_bl = targets_bl != IGNORED
        hidden_bld = _hidden(model.get_decoder(), ids_bl, labels_bl)
        logits_nv = model.get_output_embeddings()(hidden_bld[:, :-1][labelled_bl])
        targets_n = targets_bl[labelled_bl]
    else:
        logits_blv = model(input_ids=ids_bl, use_cache=False).logits[:, :-1]
        logits_nv, targets_n = logits_blv.reshape(-1, logits_blv.shape[-1]), targets_bl.reshape(-1)
    return cross_entropy(logits_nv.float(), targets_n, ignore_index=IGNORED, reduction=reduction)


def _hidden(decoder: Any, ids_bl: Tensor, labels_bl: Tensor) -> Tensor:
    """Last hidden states (b, l, d), where those before the first label, which nothing reads, may be zero: what all
    prompts begin with passes the decoder once."""
    unlabelled_l = (labels_bl == IGNORED).all(0)
    same_l = unlabelled_l & (ids_bl == ids_bl[0]).all(0)
    # The last token before the first label predicts it, and stays.
    shared = int(min(same_l.cumprod(0).sum(), unlabelled_l.cumprod(0).sum() - 1))
    cache = keys_and_values(decoder, ids_bl[:1, :shared], len(ids_bl)) if shared >= SHARED_TOKENS else None
    if cache is None:
        hidden_bld: Tensor = decoder(input_ids=ids_bl, use_cache=False).last_hidden_state
        return hidden_bld
    rest = decoder(input_ids=ids_bl[:, shared:], past_key_values=cache, use_cache=True).last_hidden_state
    return torch.nn.functional.pad(rest, (0, 0, shared, 0))


class Hook:
    """What a pipeline adds to the loop; every method is optional."""

    def start(self, trained: Mapping[str, torch.nn.Parameter]) -> None:
        """Before the first step; `trained`: the trained parameters by name."""

    def loss_term(self, model: torch.nn.Module) -> Tensor | None:
        """A scalar added to the task's loss of this step (a penalty, the loss of a replayed batch)."""
        return None

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        """After the optimiser's step 0, 1, …; may change the parameters in place (a merge)."""


def train(
    model: torch.nn.Module,
    trained: Mapping[str, torch.nn.Parameter],
    corpus: Corpus,
    settings: TrainSettings,
    generator: torch.Generator,
    *,
    hooks: Sequence[Hook] = (),
    loss: Callable[[Any, Tensor, Tensor], Tensor] = answer_loss,
    stop: int | None = None,
) -> list[float]:
    """Train the parameters `trained` of `model` and return the task's loss at each step, without the hooks' terms.

    Batches come from `generator`. `stop`: number of steps of the schedule after which to end. Raises InputError for a
    loss that is not finite.
    """
    parameters = list(trained.values())
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, foreach=True
    )
    model.train()
    for hook in hooks:
        hook.start(trained)
    losses = []
    for step in range(settings.steps)[:stop]:
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step)
        total = loss(model, *corpus.sample(settings.batch_size, generator))
        losses.append(total.item())
        if not math.isfinite(losses[-1]):
            raise InputError(f"training diverged at step {step + 1}: expected a finite loss, found {losses[-1]}")
        for hook in hooks:
            term = hook.loss_term(model)
            if term is not None:
                total = total + term
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, settings.clip)
        optimizer.step()
        for hook in hooks:
            hook.after_step(model, step)
    model.eval()
    return losses
