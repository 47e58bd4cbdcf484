"""Elastic weight consolidation (arXiv 1612.00796) on the lab.

The loss of task t gets Σ_{u<t} (λ/2) Σ_i F_u,i (θ_i − θ_u,i)², one penalty for each earlier task with its own anchor
θ_u, the parameters after its step. F_u is the diagonal of the empirical Fisher information at θ_u: the mean over
training examples (x, y) of the squared gradient of log p(y | x), summed over answer tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gcwm_viz.experiments.corpus import Corpus
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.library import Library, State, add
from gcwm_viz.experiments.lab.model import load_state, target_names
from gcwm_viz.experiments.lab.sequence import train_sequence
from gcwm_viz.experiments.training import Hook, answer_loss


@dataclass(frozen=True, kw_only=True)
class EWCSettings:
    """strength: λ ≥ 0. examples: number of training examples in each Fisher estimate."""

    strength: float = 1.0
    examples: int = 128

    def __post_init__(self) -> None:
        if self.strength < 0 or self.examples < 1:
            raise ValueError(f"strength must be ≥ 0 and examples ≥ 1, found {self.strength} and {self.examples}")


class Penalty(Hook):
    """(λ/2) Σ_u Σ_i F_u,i (θ_i − θ_u,i)²: zero with zero gradient at a single anchor."""

    def __init__(self, anchors: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]], strength: float) -> None:
        """`anchors`: (θ_u, F_u) by parameter name."""
        self.anchors = anchors
        self.strength = strength
        self._trained: Mapping[str, torch.nn.Parameter] = {}

    def start(self, trained: Mapping[str, torch.nn.Parameter]) -> None:
        self._trained = trained

    def loss_term(self, model: torch.nn.Module) -> Tensor | None:
        terms = [
            (fisher[name] * (parameter - anchor[name]).square()).sum()
            for anchor, fisher in self.anchors
            for name, parameter in self._trained.items()
        ]
        return 0.5 * self.strength * torch.stack(terms).sum() if terms else None


def fisher_diagonal(
    model: torch.nn.Module, corpus: Corpus, examples: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """F ≥ 0 of every target matrix at the model's parameters, one backward pass for each of `examples` examples."""
    parameters = dict(model.named_parameters())
    names = target_names(parameters)
    fisher = {name: torch.zeros_like(parameters[name]) for name in names}
    for _ in range(examples):
        loss = answer_loss(model, *corpus.sample(1, generator), reduction="sum")
        gradients = torch.autograd.grad(loss, [parameters[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            fisher[name] += gradient.square() / examples
    return fisher


def ewc(library: Library, order: Sequence[str], settings: EWCSettings | None = None) -> list[State]:
    """S_1 … S_T of EWC over `order`."""
    chosen = settings or EWCSettings()

    def anchor(task: str, state: State) -> tuple[State, State]:
        theta = add(library.base(), state)
        load_state(library.model, theta)
        for parameter in library.model.parameters():
            parameter.requires_grad_(True)
        corpus, stream = library.corpus(task), seeded(library.seed, "fisher", task)
        return theta, fisher_diagonal(library.model, corpus, chosen.examples, stream)

    anchors: list[tuple[State, State]] = []

    def hooks(prefix: Sequence[str], before: Sequence[State]) -> list[Hook]:
        for task, state in list(zip(prefix, before, strict=False))[len(anchors) :]:
            anchors.append(anchor(task, state))
        return [Penalty(list(anchors), chosen.strength)]

    return train_sequence(library, "ewc", chosen, order, hooks)
