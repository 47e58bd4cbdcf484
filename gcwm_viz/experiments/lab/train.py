"""One training loop for the base, the experts and every pipeline that sees data.

A pipeline (Seq. SFT, EWC, replay, iterative merging, joint training) is this loop with its own data, start and hooks:
a hook may add a loss term before the backward pass and may act on the model after each optimiser step. The loop knows
nothing of what hooks do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gcwm_viz.experiments.lab.examples import Example
from gcwm_viz.experiments.lab.model import BOS_ID, EOS_ID, PAD_ID, character_ids, copy_state, load_state, target_names

IGNORED = -100


def warm_cosine(lr: float, step: int, steps: int, warmup: int) -> float:
    """Learning rate at step 0, 1, … steps − 1: a linear warm-up to ``lr``, then a cosine to zero."""
    if step < warmup:
        return lr * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return lr * 0.5 * (1 + math.cos(math.pi * done))


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
        return warm_cosine(self.lr, step, self.steps, self.warmup)


class Corpus:
    """Encoded examples to draw batches from. `ids` and `labels` are (n, length) int64, right-padded.

    Labels are IGNORED on prompt and padding: the loss is on the answer and EOS. `weights` (n,) are the rows' relative
    odds in a batch; None means equal.
    """

    def __init__(self, examples: Sequence[Example], weights: Tensor | None = None) -> None:
        rows = []
        for prompt, answer in examples:
            start = [BOS_ID, *character_ids(prompt)]
            rows.append((start, [*character_ids(answer), EOS_ID]))
        length = max(len(p) + len(a) for p, a in rows)
        self.ids = torch.full((len(rows), length), PAD_ID)
        self.labels = torch.full((len(rows), length), IGNORED)
        for i, (start, end) in enumerate(rows):
            stop = len(start) + len(end)
            self.ids[i, :stop] = torch.tensor(start + end)
            self.labels[i, len(start) : stop] = torch.tensor(end)
        self.lengths = torch.tensor([len(p) + len(a) for p, a in rows])
        self.weights = weights

    @classmethod
    def mixture(cls, parts: Sequence[tuple[float, Sequence[Example]]]) -> Corpus:
        """Several pools, each drawn with its own share of the batch whatever its size."""
        examples = [e for _, part in parts for e in part]
        odds = [torch.full((len(part),), share / len(part), dtype=torch.float64) for share, part in parts]
        return cls(examples, torch.cat(odds))

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(ids, labels) of `size` rows drawn with replacement, cut to the longest of them."""
        if self.weights is None:
            rows = torch.randint(len(self), (size,), generator=generator)
        else:
            rows = torch.multinomial(self.weights, size, replacement=True, generator=generator)
        width = int(self.lengths[rows].max())
        return self.ids[rows, :width], self.labels[rows, :width]


def answer_loss(model: torch.nn.Module, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled tokens of a batch.

    No attention mask: padding is on the right, so causal attention never lets an answer see it.
    """
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=IGNORED)


class Hook:
    """What a pipeline adds to the loop; every method may be left as it is."""

    def start(self, model: torch.nn.Module, trained: Mapping[str, torch.nn.Parameter]) -> None:
        """Before the first step; `trained` are the parameters that move, by name."""

    def loss_term(self, model: torch.nn.Module, step: int) -> Tensor | None:
        """A scalar added to the task's loss of this step (a penalty, the loss of a replayed batch)."""
        return None

    def after_step(self, model: torch.nn.Module, step: int, loss: float) -> None:
        """After the optimiser moved; may change the parameters in place (a merge). `loss` is the task's alone."""

    def finish(self, model: torch.nn.Module) -> None:
        """After the last step, before the update is read off."""


@dataclass(frozen=True)
class TrainResult:
    """`delta`: end − start of each trained parameter, float32; `losses`: the task's loss at each step."""

    delta: dict[str, Tensor]
    losses: list[float]


def train(
    model: torch.nn.Module,
    state: Mapping[str, Tensor],
    corpus: Corpus,
    settings: TrainSettings,
    generator: torch.Generator,
    *,
    hooks: Sequence[Hook] = (),
    names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train from `state` and return the update.

    `model` is the workspace: it is loaded with `state` (all its parameters) and left at the end of training.
    `names` are the parameters that move, by default the target matrices; others stay. Batches come from `generator`.
    """
    load_state(model, state)
    parameters = dict(model.named_parameters())
    names = target_names(parameters) if names is None else names
    trained = {name: parameters[name] for name in names}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in trained)
        parameter.grad = None
    start = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.AdamW(
        trained.values(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, foreach=True
    )
    model.train()
    for hook in hooks:
        hook.start(model, trained)
    losses = []
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(step)
        loss = answer_loss(model, *corpus.sample(settings.batch_size, generator))
        losses.append(loss.item())
        for hook in hooks:
            term = hook.loss_term(model, step)
            if term is not None:
                loss = loss + term
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), settings.clip)
        optimizer.step()
        for hook in hooks:
            hook.after_step(model, step, losses[-1])
        if progress is not None:
            progress(step + 1, settings.steps)
    for hook in hooks:
        hook.finish(model)
    model.eval()
    return TrainResult({name: (p.detach() - start[name]) for name, p in trained.items()}, losses)


def pretrain(
    model: torch.nn.Module, corpus: Corpus, settings: TrainSettings, generator: torch.Generator
) -> dict[str, Tensor]:
    """Train every parameter from the model's own start and return the state."""
    train(model, copy_state(model), corpus, settings, generator, names=[n for n, _ in model.named_parameters()])
    return copy_state(model)
