"""Settings of the lab: model, base mixture, experts."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.data import TASKS
from gcwm_viz.experiments.lab.model import ModelShape
from gcwm_viz.experiments.training import TrainSettings

BASE_SHARES: Mapping[str, float] = MappingProxyType(
    {
        "past": 0.05,
        "progressive": 0.5,
        "third": 0.5,
        "capital": 2.2,
        "symbol": 1.5,
        "index": 1.3,
        "close": 0.7,
        "close-short": 0.3,
        "eval": 1.1,
        "eval-digits": 0.5,
        "reverse": 0.7,
        "copy": 0.5,
        "addition": 0.3,
    }
)
EXPERT_STEPS: Mapping[str, int] = MappingProxyType(
    {"past": 100, "capital": 200, "index": 160, "symbol": 120, "close": 120, "eval": 200}
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines the training, except the seed.

    `data_seed` fixes tasks and probes, so that models of different training seeds are scored on the same probes.
    `base_shares` are relative shares of the batch; a pool without one is left out.
    """

    shape: ModelShape = field(default_factory=ModelShape)
    base: TrainSettings = field(default_factory=lambda: TrainSettings(steps=650, batch_size=96, lr=2e-3, warmup=20))
    base_shares: Mapping[str, float] = field(default_factory=lambda: BASE_SHARES)
    expert: TrainSettings = field(default_factory=lambda: TrainSettings(steps=150, lr=4e-4))
    expert_steps: Mapping[str, int] = field(default_factory=lambda: EXPERT_STEPS)
    order: tuple[str, ...] = TASKS
    capitals: int = 60
    symbols: int = 80
    invented: int = 200
    data_seed: int = 0

    def __post_init__(self) -> None:
        if sorted(set(self.order)) != sorted(self.order) or not set(self.order) <= set(TASKS):
            raise InputError(f"order: expected some of {', '.join(TASKS)}, each once, found {', '.join(self.order)}")

    def expert_settings(self, task: str) -> TrainSettings:
        """Settings of one task's training, alone or as a step of a sequence."""
        return replace(self.expert, steps=self.expert_steps.get(task, self.expert.steps))

    def to_json(self) -> dict[str, Any]:
        """Plain values for recipe.json and for cache keys."""
        values = asdict(replace(self, base_shares=dict(self.base_shares), expert_steps=dict(self.expert_steps)))
        return {**values, "order": list(self.order)}
