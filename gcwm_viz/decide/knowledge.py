"""What is known of a set of updates before it is merged: the tables that a forecast reads.

Shape suffixes: t = updates, k = probed tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
STRENGTHS = (1 / 3, 1.0)
"""Strengths at which an update alone is scored."""


@dataclass(frozen=True)
class Knowledge:
    """``claims``: the task that each update is for. Pair tables [i, j], j acting on i, by predictor; the diagonal
    is NaN. ``relative_norm`` (t,): ‖Δ‖/‖W‖. Of probes, NaN where nobody measured: ``kl`` (t, k), divergence on the
    prompts of task k; ``base`` (k,), score of the base, higher = better, and its loss; ``solo`` (t, k, 2): score of the
    base with each update alone at the strengths :data:`STRENGTHS`, and its loss; ``first_order_base`` (t, k) in
    nats."""

    updates: tuple[str, ...]
    claims: tuple[str, ...]
    tasks: tuple[str, ...]
    relative_norm: Array
    effective_rank: Array
    pairs: Mapping[str, Array]
    kl: Array
    base: Array
    solo: Array
    base_loss: Array
    solo_loss: Array
    first_order_base: Array

    @property
    def has_labels(self) -> bool:
        return bool(np.isfinite(self.base).any() and np.isfinite(self.solo).any())

    @property
    def has_prompts(self) -> bool:
        return bool(np.isfinite(self.kl).any())

    @classmethod
    def of(
        cls,
        updates: Sequence[str],
        claims: Sequence[str],
        tasks: Sequence[str],
        tables: Mapping[str, pd.DataFrame],
        split: str = "dev",
        score: str = "em",
    ) -> Knowledge:
        """From the tables ``updates``, ``pairs``, ``effects`` and ``solo`` of one model."""
        own, names, wanted = tables["updates"].set_index("update"), list(updates), list(tasks)
        pairs = tables["pairs"]
        pairs = pairs[pairs["i"].isin(names) & pairs["j"].isin(names)]
        square = {
            column: pairs.pivot(index="i", columns="j", values=column)
            .reindex(index=names, columns=names)
            .to_numpy(float)
            for column in pairs.columns
            if column not in ("i", "j", "seed")
        }
        effects = tables["effects"]
        solo = tables["solo"]
        solo = solo[solo["split"] == split]
        alone = [solo[(solo["strength"] - strength).abs() < 1e-6] for strength in STRENGTHS]
        base = solo[solo["update"] == ""].set_index("task")

        def by_task(frame: pd.DataFrame, column: str) -> Array:
            if column not in frame or frame.empty:
                return np.full((len(names), len(wanted)), np.nan)
            table = frame.pivot(index="update", columns="task", values=column)
            return table.reindex(index=names, columns=wanted).to_numpy(float)

        return cls(
            updates=tuple(names),
            claims=tuple(claims),
            tasks=tuple(wanted),
            relative_norm=own["relative_norm"].reindex(names).to_numpy(float),
            effective_rank=own["effective_rank"].reindex(names).to_numpy(float),
            pairs=square,
            kl=by_task(effects, "kl_task"),
            base=base[score].reindex(wanted).to_numpy(float) if len(base) else np.full(len(wanted), np.nan),
            solo=np.stack([by_task(rows, score) for rows in alone], axis=-1),
            base_loss=base["nll"].reindex(wanted).to_numpy(float) if len(base) else np.full(len(wanted), np.nan),
            solo_loss=np.stack([by_task(rows, "nll") for rows in alone], axis=-1),
            first_order_base=by_task(effects, "first_order_base"),
        )
