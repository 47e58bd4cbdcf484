"""FOREVER (arXiv 2601.03938) on the lab: replay on a forgetting curve in model time.

Model time is the accumulated norm of optimiser updates, Σ_k ‖θ_k − θ_{k−1}‖, in units ("days") of its value over a
warm-up window at the start of the first task. Within a task, examples of earlier ones are replayed when model time
passes day 1, 2, 4, 7, 15, 30, 60, …: often at first, seldom later, and after more steps where steps are small.

Chosen here, as the published description leaves it open: the clock starts at zero with every task and all
earlier tasks are replayed together; a replay adds the loss of a batch from the replay buffer to each of the next
`session` steps; its weight is `strength` times the ratio of the current movement per step to that of the warm-up
window, within `weight_range`, so that faster movement gives stronger replay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gcwm_viz.experiments.lab.library import Library, State
from gcwm_viz.experiments.lab.sequence import ReplayBuffer, train_sequence
from gcwm_viz.experiments.lab.train import train_update
from gcwm_viz.experiments.training import Hook, answer_loss

FIRST_DAYS = (1.0, 2.0, 4.0, 7.0, 15.0)


@dataclass(frozen=True, kw_only=True)
class ForeverSettings:
    """window: steps of the warm-up window. session: steps of one replay. batch_size: examples of a replayed batch.
    strength, weight_range: weight of the replayed loss. memory: examples of each earlier task."""

    window: int = 10
    session: int = 32
    batch_size: int = 64
    strength: float = 1.0
    weight_range: tuple[float, float] = (0.5, 2.0)
    memory: int = 32

    def __post_init__(self) -> None:
        if min(self.window, self.session, self.batch_size, self.memory) < 1 or self.strength < 0:
            raise ValueError("window, session, batch_size and memory must be at least 1 and strength at least 0")


class ModelClock(Hook):
    """Accumulates ‖θ_k − θ_{k−1}‖ over all trained parameters; `time` ≥ 0 is the sum, `moved` its last term."""

    def __init__(self) -> None:
        self.time = 0.0
        self.moved = 0.0
        self._trained: Mapping[str, torch.nn.Parameter] = {}
        self._last: list[Tensor] = []

    def start(self, trained: Mapping[str, torch.nn.Parameter]) -> None:
        self._trained = trained
        self._last = [p.detach().clone() for p in trained.values()]

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        now = [p.detach() for p in self._trained.values()]
        changes = torch._foreach_sub(now, self._last)
        self.moved = float(torch.stack(torch._foreach_norm(changes)).norm())
        self.time += self.moved
        torch._foreach_copy_(self._last, now)


class Replay(ModelClock):
    """Adds replayed batches at the due days. `day`: model time of one day; `pace`: movement per warm-up step.

    `replays` lists (step, model time in days) at which a replay fell due.
    """

    def __init__(self, buffer: ReplayBuffer, day: float, settings: ForeverSettings) -> None:
        super().__init__()
        self.buffer, self.day, self.settings = buffer, day, settings
        self.pace = day / settings.window
        self.replays: list[tuple[int, float]] = []
        self._left = 0

    def loss_term(self, model: torch.nn.Module) -> Tensor | None:
        if self._left == 0:
            return None
        self._left -= 1
        low, high = self.settings.weight_range
        weight = self.settings.strength * min(high, max(low, self.moved / self.pace))
        return weight * answer_loss(model, *self.buffer.batch(self.settings.batch_size))

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        super().after_step(model, step)
        days = self.time / self.day
        if days >= due_day(len(self.replays)):
            self.replays.append((step, days))
            self._left = self.settings.session


def due_day(index: int) -> float:
    """Model time in days of replay 0, 1, …: 1, 2, 4, 7, 15, then doubled each time."""
    if index < len(FIRST_DAYS):
        return FIRST_DAYS[index]
    return FIRST_DAYS[-1] * 2.0 ** (index - len(FIRST_DAYS) + 1)


def day_length(library: Library, task: str, window: int) -> float:
    """Model time of the first `window` steps of the first task's training."""
    clock = ModelClock()
    settings, stream = library.recipe.expert_settings(task), library.stream(task)
    train_update(library.model, library.base(), library.corpus(task), settings, stream, hooks=[clock], stop=window)
    return clock.time


def forever(library: Library, order: Sequence[str], settings: ForeverSettings | None = None) -> list[State]:
    """S_1 … S_T of FOREVER over `order`."""
    chosen = settings or ForeverSettings()
    day = cache(lambda: day_length(library, order[0], chosen.window))

    def hooks(prefix: Sequence[str], before: Sequence[State]) -> list[Hook]:
        return [Replay(ReplayBuffer(library, prefix, chosen.memory), day(), chosen)]

    return train_sequence(library, "forever", chosen, order, hooks)
