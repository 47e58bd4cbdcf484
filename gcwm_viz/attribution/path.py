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

import numpy as np
import torch
from torch import Tensor

from gcwm_viz.attribution.gradients import MatrixGradients, SettableModel, inner
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, difference, scaled, stacked
from gcwm_viz.probes.loss import TaskLoss

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


class StatePath:
    """The straight path between two states of a model in memory; ``start`` and ``end`` are updates of its matrices.

    ``half``: matrix products in bfloat16 (autocast), weights and sums in float32. Beyond the model, memory holds both
    states as they are given, factors as factors, and the gradient of one matrix at a time.

    Raises :class:`InputError` for a model that has its matrices in other forms than the checkpoint.
    """

    def __init__(
        self, model: SettableModel, start: Sequence[Update | None], end: Sequence[Update | None], *, half: bool = False
    ) -> None:
        self._model, self._start, self._end = model, start, end
        # None in both: a matrix that stays. The changes are formed one at a time, when a gradient arrives.
        both = zip(start, end, strict=True)
        changed = [place for place, (a, b) in enumerate(both) if a is not None or b is not None]
        self._gradients = MatrixGradients(model, changed, half=half)

    def move(self, x: float) -> None:
        """Set the model to W_a + x(W_b − W_a); at 0 and 1 to the two states exactly."""
        self._model.set_updates([between(a, b, x) for a, b in zip(self._start, self._end, strict=True)])

    def gradient(self, loss: TaskLoss) -> tuple[float, Tensor]:
        """L at the present point, and ⟨W_b,k − W_a,k, ∇_{W_k} L⟩ of every matrix there, float64."""
        products = torch.zeros(len(self._start), dtype=torch.float64)

        def take(place: int, gradient_oi: Tensor) -> None:
            change = change_between(self._start[place], self._end[place])
            assert change is not None
            products[place] += inner(gradient_oi, change)

        return self._gradients.measure(loss, take), products


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
