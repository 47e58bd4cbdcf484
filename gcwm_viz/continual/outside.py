"""The state outside the target matrices: a sum or mean of what the updates change in norms, biases, embeddings, head.

It is linear in the updates, S_t = Σ_i c_i Δ_i. Under ``sum`` Δ_merge = Σ_i ω_i Δ_i over the active set, integrated with
η as the matrices are; under ``mean`` θ_pre + S_t is the weighted mean of the active updates' tensors, without η.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gcwm_viz.continual.active_set import active_set
from gcwm_viz.continual.sequence import ContinualConfig
from gcwm_viz.continual.state import state_of
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.source import UpdateSource


class OutsideState:
    """``names``: the base's tensors outside ``keys`` that one of the updates changes; none under ``keep``."""

    def __init__(self, sources: Sequence[UpdateSource], keys: Iterable[MatrixKey], continual: ContinualConfig) -> None:
        self._continual, keys = continual, list(keys)
        merged = sources if continual.outside != "keep" else []
        self._sources = [(source, dict.fromkeys(source.outside_names(keys))) for source in merged]
        self.names = list(dict.fromkeys(name for _, names in self._sources for name in names))

    def change(self, name: str, step: int, strength: float = 1.0) -> Tensor | None:
        """S_t of one tensor, float32 in the base's shape, two tensors in memory at a time; None where it is zero.
        ``strength``: of the merge, which multiplies η."""
        total = None
        for (source, names), factor in zip(self._sources, self._coefficients(step, strength).tolist(), strict=False):
            if factor and name in names:
                change = factor * source.outside_change(name)
                total = change if total is None else total.add_(change)
        return total if total is not None and bool(total.any()) else None

    def _coefficients(self, step: int, strength: float) -> Tensor:
        """c_i of every update that has arrived by ``step``, float64."""
        if self._continual.outside == "mean":
            return self._merged(step, step)
        scaled = replace(self._continual, eta=strength * self._continual.eta)
        return dense(state_of(step, lambda at: self._merged(at, step), scaled))

    def _merged(self, at: int, count: int) -> Tensor:
        """Of the merge of one step: what each update contributes to it, the anchor by its own."""
        active = active_set(at, self._continual)
        anchor, own = active.weights[: int(active.anchored)], active.weights[int(active.anchored) :]
        total = torch.zeros(count, dtype=torch.float64)
        total[list(active.indices)] = torch.tensor(own, dtype=torch.float64)
        for weight in anchor:
            total += weight * self._merged(at - 1, count)
        return total / sum(active.weights) if self._continual.outside == "mean" else total
