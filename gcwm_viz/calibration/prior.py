"""What geometry says beforehand about the matrices: a score by which they are penalised less, or chosen.

Shape suffixes: j = sources, the merged state first and then the updates; k = matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gcwm_viz.continual.store import RunStore
from gcwm_viz.experiments.draw import seeded
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.signals.interference import interference
from gcwm_viz.updates.matrices import MatrixKey

LEAST = 0.1
"""Of the mean score: a lower one counts as this, so that no penalty is more than ten times that of the mean."""


def prior_scores(store: RunStore, sources: Sequence[Sequence[Update | None]], prior: str, seed: int) -> Tensor:
    """(k,) float64, higher = the matrix deserves coefficients more; NaN where it is not defined.

    ``conflict``: mean γ of the pairs of updates. ``interference``: Σ_{i≠j} tr(Ĝ_i Δ_j Â_i Δ_jᵀ) over the pairs relative
    to Σ_i ‖Δ_i‖² of the matrix. ``none``: drawn by the seed, a control for the other two.
    """
    if prior == "none":
        return torch.rand(len(store.keys), generator=seeded(seed, "cells"), dtype=torch.float64)
    scores = [_score(own[1:], prior, store) for own in zip(*sources, strict=True)]
    return torch.tensor(scores, dtype=torch.float64)


def penalties(scores_k: Tensor) -> Tensor:
    """(k,) what the penalty of every matrix is multiplied by: mean score over its own, 1 where that is NaN."""
    mean = scores_k.nanmean()
    weights_k = mean / scores_k.clamp_min(LEAST * float(mean))
    return weights_k.nan_to_num(nan=1.0)


def chosen_cells(scores_k: Tensor, count: int | None, keys: Sequence[MatrixKey]) -> Tensor:
    """(k,) bool: the ``count`` matrices with the highest scores, the first of equal ones; all of them for None."""
    order = sorted(range(len(keys)), key=lambda k: -float(scores_k[k].nan_to_num(nan=-1.0)))
    chosen_k = torch.zeros(len(keys), dtype=torch.bool)
    chosen_k[order[:count]] = True
    return chosen_k


def _score(updates: Sequence[Update | None], prior: str, store: RunStore) -> float:
    measured = interference(None, updates, store.settings.gcwm)
    pairs_ij = ~torch.eye(len(updates), dtype=torch.bool)
    values = measured.tables[prior][pairs_ij]
    if not bool(values.isfinite().any()):
        return float("nan")
    if prior == "conflict":
        return float(values.nanmean())
    return float(values.nansum() / measured.squared_norm.nansum())
