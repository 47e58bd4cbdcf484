"""A model in memory set to base + c_0 W + Σ_i c_i Δ_i, and its loss as a function of the coefficients.

Shape suffixes: j = sources, the merged state first and then the updates; k = matrices; n = coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gcwm_viz.attribution.gradients import MatrixGradients
from gcwm_viz.calibration.coefficients import Coefficients, blended
from gcwm_viz.calibration.sample import Sample
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.linalg.lowrank import Update, squared_norm
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.loss import TaskEntropy, TaskLoss
from gcwm_viz.probes.stored import state_of

LOSSES = {"nll": TaskLoss, "entropy": TaskEntropy}
"""The loss of a task by the setting ``objective``."""


def read_sources(live: LiveModel) -> list[list[Update | None]]:
    """(j, k): the final state and every update of the run at its strength, of every target matrix; None
    where it is zero."""
    store = live.store
    state = live.updates(state_of(store, store.steps))
    changed = [None if update is None or squared_norm(update) == 0 else update for update in state]
    experts = [("expert", index, name) for index, name in enumerate(store.updates, start=1)]
    return [changed, *(live.updates(expert) for expert in experts)]


def present(sources: Sequence[Sequence[Update | None]], settings: CalibrationSettings) -> Tensor:
    """(j, k) bool: where a source that takes part has a matrix."""
    there_jk = torch.tensor([[update is not None for update in own] for own in sources])
    if settings.sources == "state":
        there_jk[1:] = False
    return there_jk


class BlendLoss:
    """L(c) = mean over tasks of their losses at base + c_0 W + Σ_i c_i Δ_i, and ∂L/∂c_jk = ⟨∇_{W_k} L, Δ_jk⟩.

    One forward and backward pass a task serves every coefficient. Memory holds the model, the sources as they are
    given, factors as factors, and the gradient of one matrix. ``half``, ``recompute``: as in
    :class:`~gcwm_viz.attribution.gradients.MatrixGradients`.
    """

    def __init__(
        self,
        live: LiveModel,
        sources: Sequence[Sequence[Update | None]],
        coefficients: Coefficients,
        sample: Sample,
        loss: str,
        *,
        half: bool = False,
        recompute: bool = False,
    ) -> None:
        self._live, self._sources, self._coefficients = live, sources, coefficients
        touched = (coefficients.place_jk >= 0).any(0).nonzero()[:, 0].tolist()
        self._gradients = MatrixGradients(live.merged, touched, half=half, recompute=recompute)
        kind = LOSSES[loss]
        self._fitted = [kind(live.tokenizer, task) for task in sample.fitted]
        self._held_out = [kind(live.tokenizer, task) for task in sample.held_out]

    def fitted(self, values_n: Tensor) -> tuple[float, Tensor]:
        self._set(values_n)
        value, products_jk = 0.0, torch.zeros(self._coefficients.place_jk.shape, dtype=torch.float64)
        for task in self._fitted:
            own, own_jk = self._gradients.products(task, self._sources)
            value += own / len(self._fitted)
            products_jk += own_jk / len(self._fitted)
        return value, self._coefficients.gradient(products_jk)

    def held_out(self) -> float:
        return _mean([self._gradients.value(task) for task in self._held_out])

    def losses(self, values_n: Tensor) -> tuple[float, float]:
        self._set(values_n)
        return _mean([self._gradients.value(task) for task in self._fitted]), self.held_out()

    def _set(self, values_n: Tensor) -> None:
        self._live.set_updates(blended(self._sources, self._coefficients.factors(values_n)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
