"""The change of a task's loss along a straight path of weights, split over the matrices that change.

A_k = ⟨W_b,k − W_a,k, ∫₀¹ ∇_{W_k} L(W_a + x(W_b − W_a)) dx⟩, by Clenshaw–Curtis quadrature in x, whose nodes are kept
when their number doubles (it usually needs no more than Gauss–Legendre: Trefethen 2008, doi:10.1137/060659831).
Σ_k A_k = L(W_b) − L(W_a) up to the error of the quadrature. This is integrated gradients (Sundararajan et al. 2017,
arXiv 1703.01365) over weights, along a straight line where loss change allocation (Lan et al. 2019, arXiv 1909.01440)
follows training. The straight line is a choice: along another path between the same states the same sum is split
differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, difference, scaled, stacked
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.merged import OutsideTensor
from gcwm_viz.updates.matrices import MatrixKey

RELATIVE, ABSOLUTE = 0.02, 1e-3
"""The residual holds below the larger of this share of |ΔL| and so many nats."""
FIRST_NODES, MOST_NODES = 5, 65


@dataclass(frozen=True)
class LossSplit:
    """``values``: A_k of every matrix in nats, positive = it made the task worse; 0 where it does not change.

    ``change``: L(W_b) − L(W_a) from the passes at both ends. ``residual``: |Σ values − change|, in nats.
    """

    values: list[float]
    change: float
    nodes: int
    residual: float

    @property
    def converged(self) -> bool:
        return self.residual <= max(RELATIVE * abs(self.change), ABSOLUTE)


class SettableModel(Protocol):
    """A model in memory whose ``keys``, tensors by name with their layout, are set to base + Δ; None in ``parameters``
    for one that has them in other forms. :class:`~gcwm_viz.probes.merged.MergedModel` is one."""

    model: Any
    device: torch.device

    @property
    def keys(self) -> Sequence[MatrixKey | OutsideTensor]: ...
    @property
    def parameters(self) -> dict[str, torch.nn.Parameter] | None: ...
    def set_updates(self, deltas: Sequence[Update | None]) -> None: ...


class StatePath:
    """The straight path between two states of a model in memory; ``start`` and ``end`` are updates of its matrices.

    ``half``: matrix products in bfloat16 (autocast), weights and sums in float32. Beyond the model, memory holds both
    states as they are given, factors as factors, and the gradient of one matrix at a time.

    Raises :class:`InputError` for a model that holds several matrices in one parameter.
    """

    def __init__(
        self, model: SettableModel, start: Sequence[Update | None], end: Sequence[Update | None], *, half: bool = False
    ) -> None:
        if model.parameters is None:
            raise InputError(
                "this model holds several of its matrices, such as experts, in one parameter, expected one parameter "
                "a matrix: their gradients cannot be told apart yet"
            )
        self._model, self._parameters, self._half = model, model.parameters, half
        self._start, self._end = start, end
        # None in both: a matrix that stays. The changes are formed one at a time, when a gradient arrives.
        both = zip(model.keys, start, end, strict=True)
        self._changed = {k: key.name for k, (key, a, b) in enumerate(both) if a is not None or b is not None}
        for parameter in model.model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = None  # what a training left there would be added to the first gradient
        for name in self._changed.values():
            self._parameters[name].requires_grad_(True)

    def move(self, x: float) -> None:
        """Set the model to W_a + x(W_b − W_a); at 0 and 1 to the two states exactly."""
        self._model.set_updates([between(a, b, x) for a, b in zip(self._start, self._end, strict=True)])

    def gradient(self, loss: TaskLoss) -> tuple[float, Tensor]:
        """L at the present point, and ⟨W_b,k − W_a,k, ∇_{W_k} L⟩ of every matrix there, float64."""
        value, products = 0.0, torch.zeros(len(self._start), dtype=torch.float64)
        handles = [
            self._parameters[name].register_post_accumulate_grad_hook(partial(self._take, k, products))
            for k, name in self._changed.items()
        ]
        try:
            with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self._half):
                for part in loss.parts(self._model.model, self._model.device):
                    value += float(part.detach())
                    if part.requires_grad:
                        part.backward()
        finally:
            for handle in handles:
                handle.remove()
        return value, products

    def _take(self, k: int, products: Tensor, parameter: Tensor) -> None:
        """Add one matrix's share of a backward pass, and free its gradient."""
        change = change_between(self._start[k], self._end[k])
        assert parameter.grad is not None
        assert change is not None
        products[k] += inner(self._model.keys[k].to_linear(parameter.grad), change)
        parameter.grad = None


def split_loss(path: StatePath, loss: TaskLoss, most_nodes: int = MOST_NODES) -> LossSplit:
    """A_k of one task: the nodes double until the residual holds, or there are ``most_nodes``, 5, 9, 17, 33 or 65.

    Raises :class:`InputError` for a loss or a gradient that is not finite at either end or on the ends.
    """
    where = f"task {loss.task.name!r} ({loss.task.split})"
    measured: dict[float, tuple[float, Tensor]] = {}

    def gradient(x: float) -> Tensor:
        if x not in measured:
            path.move(x)
            measured[x] = path.gradient(loss)
            place = {0.0: "at the start", 1.0: "at the end"}.get(x, "between the two states")
            if not math.isfinite(measured[x][0]):
                raise InputError(f"{where}: its loss {place} is {measured[x][0]}, expected a number")
            if not bool(measured[x][1].isfinite().all()):
                raise InputError(f"{where}: its gradient {place} is not finite, expected numbers")
        return measured[x][1]

    nodes = FIRST_NODES
    while True:
        terms = [weight * gradient(x) for x, weight in zip(*quadrature(nodes), strict=True)]
        values = torch.stack(terms).sum(0)
        change = measured[1.0][0] - measured[0.0][0]
        split = LossSplit(values.tolist(), change, nodes, abs(float(values.sum()) - change))
        if split.converged or nodes >= most_nodes:
            return split
        nodes = 2 * nodes - 1


def quadrature(nodes: int) -> tuple[list[float], list[float]]:
    """Nodes and weights of Clenshaw–Curtis quadrature on [0, 1], exact for polynomials of degree nodes − 1.

    ``nodes``: odd and at least 3. Those of (nodes + 1)/2 are among them. Weights by the cosine series of Clenshaw and
    Curtis (Numerische Mathematik 2, 1960, doi:10.1007/BF01386223).
    """
    panels = nodes - 1
    k = np.arange(nodes)
    j = np.arange(1, panels // 2 + 1)
    series = np.where(j == panels // 2, 1.0, 2.0) / (4 * j**2 - 1) * np.cos(2 * np.pi * np.outer(k, j) / panels)
    weights = np.where((k == 0) | (k == panels), 0.5, 1.0) / panels * (1 - series.sum(1))
    # sin² is exact at both ends, and the same number for the same node of another rule.
    places = [math.sin(math.pi / 2 * fraction) ** 2 for fraction in k / panels]
    return places, weights.tolist()


def change_between(start: Update | None, end: Update | None) -> Update | None:
    """end − start, factored where both are; None where neither changes the base."""
    if start is None or end is None:
        return scaled(start, -1.0) if start is not None else end
    return difference(end, start)


def between(start: Update | None, end: Update | None, x: float) -> Update | None:
    """(1 − x)·start + x·end, factored where both are; at 0 and 1 the states themselves, bit for bit."""
    if x in (0.0, 1.0):
        return end if x else start
    if start is None or end is None:
        only, share = (start, 1 - x) if end is None else (end, x)
        return None if only is None else scaled(only, share)
    if isinstance(start, LowRank) and isinstance(end, LowRank):
        return stacked([LowRank((1 - x) * start.left_or, start.right_ri), LowRank(x * end.left_or, end.right_ri)])
    return torch.lerp(dense(start), dense(end), x)


def inner(gradient_oi: Tensor, change: Update) -> float:
    """⟨gradient, change⟩, a factored change by its factors: Σ (BᵀG) ∘ A."""
    if isinstance(change, LowRank):
        left_or, right_ri = (f.to(gradient_oi) for f in (change.left_or, change.right_ri))
        return float(((left_or.mT @ gradient_oi) * right_ri).sum(dtype=torch.float64))
    return float((gradient_oi * change.to(gradient_oi)).sum(dtype=torch.float64))
