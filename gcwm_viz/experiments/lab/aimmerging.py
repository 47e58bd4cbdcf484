"""AIMMerging (arXiv 2509.17348) on the lab: iterative merging during training, at steps set by two signals.

Learning signal: after merge b, Λ_b = Σ|τ_b| / S_b with τ_b the update since the last merge and S_b its steps. Where Λ
rises over most of a sliding window the next interval is divided by γ (at least `shortest`), where it falls over most of
it multiplied (at most `longest`). Forgetting signal: the loss on a small batch from the replay buffer, measured without
gradient; above a running threshold it triggers a merge at once.

Chosen here, as the published description leaves it open: the threshold is `tolerance` times the mean replay loss of the
first `probes` measurements after the last merge, and two merges are at least `shortest` steps apart. A merge sets every
target matrix to θ_prev + w τ with w = I_L / (I_L + I_F): learning importance I_L = Σ|τ ∘ ∇L_new| and forgetting
importance I_F = Σ|τ ∘ ∇L_memory|, first-order estimates of what undoing τ would cost and save, each divided by its mean
over matrices. Rehearsal: the `rehearsal` steps after a merge add the loss of a replayed batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from gcwm_viz.experiments.corpus import Corpus
from gcwm_viz.experiments.lab.library import Library, State
from gcwm_viz.experiments.lab.sequence import ReplayBuffer, train_sequence
from gcwm_viz.experiments.training import Hook, answer_loss


@dataclass(frozen=True, kw_only=True)
class AIMSettings:
    """interval, shortest, longest: steps between merges, initially, at least and at most. gamma > 1. window: number
    of Λ in the sliding window. tolerance, probes, every: forgetting threshold, measured every `every` steps.
    rehearsal: steps of rehearsal after a merge. batch_size: of replayed batches. memory: examples of each earlier task.
    """

    interval: int = 12
    shortest: int = 4
    longest: int = 40
    gamma: float = 1.5
    window: int = 4
    tolerance: float = 1.2
    probes: int = 2
    every: int = 2
    rehearsal: int = 6
    batch_size: int = 64
    memory: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.interval <= self.longest:
            raise ValueError(
                f"expected 1 ≤ shortest ≤ interval ≤ longest, found {self.shortest}, {self.interval}, {self.longest}"
            )
        if self.gamma <= 1 or self.window < 2 or min(self.probes, self.every, self.batch_size, self.memory) < 1:
            raise ValueError(
                "gamma must be above 1, window at least 2, probes, every, batch_size and memory at least 1"
            )


class MergeController:
    """Decides when to merge from the two signals alone. `interval`: steps from the last merge to the next."""

    def __init__(self, settings: AIMSettings) -> None:
        self.settings = settings
        self.interval = settings.interval
        self.learning: list[float] = []
        self._losses: list[float] = []

    def due(self, steps_since: int, replay_loss: float | None) -> bool:
        """Whether to merge `steps_since` steps after the last one; `replay_loss` None = not measured now."""
        if replay_loss is not None:
            self._losses.append(replay_loss)
        if steps_since >= self.interval:
            return True
        first = self._losses[: self.settings.probes]
        if replay_loss is None or len(self._losses) <= self.settings.probes or steps_since < self.settings.shortest:
            return False
        return replay_loss > self.settings.tolerance * sum(first) / len(first)

    def merged(self, movement: float, steps_since: int) -> None:
        """After merge b: `movement` = Σ|τ_b|, `steps_since` = S_b. Sets the next interval and threshold."""
        self._losses.clear()
        self.learning = [*self.learning, movement / steps_since][-self.settings.window :]
        changes = [b - a for a, b in pairwise(self.learning)]
        rises, falls = sum(c > 0 for c in changes), sum(c < 0 for c in changes)
        if rises > falls:
            self.interval = max(self.settings.shortest, int(self.interval / self.settings.gamma))
        elif falls > rises:
            self.interval = min(self.settings.longest, round(self.interval * self.settings.gamma))


class IterativeMerge(Hook):
    """Merges during the training of one task."""

    def __init__(self, buffer: ReplayBuffer, corpus: Corpus, settings: AIMSettings) -> None:
        self.buffer, self.corpus, self.settings = buffer, corpus, settings
        self.controller = MergeController(settings)
        self._trained: Mapping[str, torch.nn.Parameter] = {}
        self._previous: dict[str, Tensor] = {}
        self._since = 0
        self._rehearse = 0

    def start(self, trained: Mapping[str, torch.nn.Parameter]) -> None:
        self._trained = trained
        self._previous = {name: p.detach().clone() for name, p in trained.items()}

    def loss_term(self, model: torch.nn.Module) -> Tensor | None:
        if self._rehearse == 0:
            return None
        self._rehearse -= 1
        return answer_loss(model, *self.buffer.batch(self.settings.batch_size))

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        self._since += 1
        replay_loss = None
        if self._since % self.settings.every == 0:
            with torch.no_grad():
                replay_loss = float(answer_loss(model, *self.buffer.batch(self.settings.batch_size)))
        if self.controller.due(self._since, replay_loss):
            self._merge(model)

    def _merge(self, model: torch.nn.Module) -> None:
        tau = {name: p.detach() - self._previous[name] for name, p in self._trained.items()}
        # The buffer's generator, since the training's would change the batches of the task.
        learning = self._importance(model, tau, self.corpus.sample(self.settings.batch_size, self.buffer.generator))
        forgetting = self._importance(model, tau, self.buffer.batch(self.settings.batch_size))
        weights = fusion_weights(learning, forgetting)
        movement = float(sum(t.abs().sum() for t in tau.values()))
        with torch.no_grad():
            for name, parameter in self._trained.items():
                parameter.copy_(self._previous[name] + weights[name] * tau[name])
                self._previous[name] = parameter.detach().clone()
        self.controller.merged(movement, self._since)
        self._since, self._rehearse = 0, self.settings.rehearsal

    def _importance(
        self, model: torch.nn.Module, tau: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]
    ) -> dict[str, float]:
        gradients = torch.autograd.grad(answer_loss(model, *batch), list(self._trained.values()))
        return {name: float((tau[name] * g).abs().sum()) for name, g in zip(tau, gradients, strict=True)}


def fusion_weights(learning: Mapping[str, float], forgetting: Mapping[str, float]) -> dict[str, float]:
    """w in [0, 1] by matrix, higher = more of the new; ½ where neither loss has a gradient."""
    mean_l = sum(learning.values()) / len(learning) or 1.0
    mean_f = sum(forgetting.values()) / len(forgetting) or 1.0
    weights = {}
    for name in learning:
        new, old = learning[name] / mean_l, forgetting[name] / mean_f
        weights[name] = new / (new + old) if new + old > 0 else 0.5
    return weights


def aimmerging(library: Library, order: Sequence[str], settings: AIMSettings | None = None) -> list[State]:
    """S_1 … S_T of AIMMerging over `order`."""
    chosen = settings or AIMSettings()

    def hooks(prefix: Sequence[str], before: Sequence[State]) -> list[Hook]:
        return [IterativeMerge(ReplayBuffer(library, prefix, chosen.memory), library.corpus(prefix[-1]), chosen)]

    return train_sequence(library, "aimmerging", chosen, order, hooks)
