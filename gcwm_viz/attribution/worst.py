"""The step that made an earlier task worst, and the few matrices that did half of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from gcwm_viz.attribution.roles import role


@dataclass(frozen=True)
class Worst:
    """``change``: rise of the task's loss at the step, nats. ``half``: (layer, family) of the fewest matrices whose
    positive attributions add up to half of all positive ones, the largest first; of ``matrices`` in all; ``split``:
    whose losses these are."""

    task: str
    step: int
    split: str
    change: float
    half: list[tuple[int, str]]
    matrices: int

    def rows(self, attribution: pd.DataFrame) -> pd.DataFrame:
        """Rows of the table of that step and split, all tasks."""
        own: pd.DataFrame = attribution[
            (attribution["split"] == self.split)
            & (attribution["start"] == self.step - 1)
            & (attribution["step"] == self.step)
        ]
        return own


def split_of(attribution: pd.DataFrame) -> str:
    """The split that counts: development where the table has it, else test."""
    return "dev" if (attribution["split"] == "dev").any() else "test"


def worst_step(attribution: pd.DataFrame, order: Sequence[str]) -> Worst | None:
    """The largest rise of an earlier task's loss at a single step; None where none rose, or nothing was split.

    attribution: the table, of which the development split counts where it has both. order: updates by arrival.
    """
    split = split_of(attribution)
    rows = attribution[(attribution["split"] == split) & (attribution["start"] == attribution["step"] - 1)]
    steps = rows.drop_duplicates(["task", "step"]).reset_index(drop=True)
    pairs = zip(steps["task"], steps["step"], strict=True)
    earlier = pd.Series([role(str(task), int(step), order) == "earlier" for task, step in pairs], dtype=bool)
    steps = steps[earlier & (steps["change"].astype(float) > 0)]
    if steps.empty:
        return None
    top = steps.sort_values("change", kind="stable").iloc[-1]
    own = rows[(rows["task"] == top["task"]) & (rows["step"] == top["step"])]
    harm = own[own["value"] > 0].sort_values("value", ascending=False, kind="stable")
    count = int(np.searchsorted(harm["value"].cumsum().to_numpy(), harm["value"].sum() / 2)) + 1
    half = list(zip(harm["layer"].astype(int), harm["family"].astype(str), strict=True))[:count]
    return Worst(str(top["task"]), int(top["step"]), split, float(top["change"]), half, len(own))
