"""A lab that trains in seconds and needs no fact packages: three rotations of an alphabet, a one-layer model."""

from torch import Tensor

from gcwm_viz.experiments.draw import seeded
from gcwm_viz.experiments.lab.data import LabTask
from gcwm_viz.experiments.lab.library import Library
from gcwm_viz.experiments.lab.model import ModelShape, copy_state, new_model, round_state
from gcwm_viz.experiments.lab.recipe import Recipe
from gcwm_viz.experiments.training import TrainSettings

TINY = Recipe(
    shape=ModelShape(hidden=32, intermediate=64, layers=1, heads=2, kv_heads=1, head_dim=16, initializer_range=0.2),
    base=TrainSettings(steps=1, batch_size=8, lr=1e-4, warmup=1),
    expert=TrainSettings(steps=60, batch_size=32, lr=1e-2, warmup=5),
    expert_steps={},
    order=("past", "index", "close"),
)
LETTERS = "abcdefgh"


def rotation(name: str, prefix: str, shift: int) -> LabTask:
    """Prompts that differ between tasks in one letter, other answers: what one teaches the next one overwrites."""
    answers = LETTERS[shift:] + LETTERS[:shift]
    rows = tuple((f"{prefix}{letter}=", answer) for letter, answer in zip(LETTERS, answers, strict=True))
    return LabTask(name=name, train=rows, dev=rows, test=rows)


TASKS = {task.name: task for task in (rotation("past", "p", 1), rotation("index", "i", 3), rotation("close", "c", 5))}


class TinyLibrary(Library):
    """The base is untrained."""

    @property
    def tasks(self) -> dict[str, LabTask]:
        return TASKS

    def _train_base(self) -> dict[str, Tensor]:
        return round_state(copy_state(new_model(self.recipe.shape, seeded(self.seed, "model"))))
