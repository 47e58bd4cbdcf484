"""Merge steps as the engine builds them, for methods under test."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import check_weights, layer_geometry
from gcwm_viz.linalg.lowrank import LowRank, squared_norm
from gcwm_viz.merging.registry import get_method
from gcwm_viz.merging.step import MergeStep
from tests.rounding import rounding

DOUBLE = GCWMConfig(precision="float64")
MATRIX = "model.layers.0.mlp.up_proj.weight"


def merge_step(
    method: str,
    deltas: Iterable[Tensor | LowRank],
    config: GCWMConfig = DOUBLE,
    *,
    weights: Sequence[float] | None = None,
    names: list[str] | None = None,
    matrix: str = MATRIX,
    **more: Any,
) -> MergeStep:
    deltas = list(deltas)
    settings = get_method(method).settings
    options = {key: more.pop(key) for key in list(more) if key in settings.names()}
    values = {"previous": None, "arriving": deltas[-1], "norms": [squared_norm(delta) ** 0.5 for delta in deltas]}
    return MergeStep(
        deltas=deltas,
        names=names or [f"u{i}" for i in range(len(deltas))],
        weights=check_weights(weights, len(deltas)),
        geometry=layer_geometry(deltas, weights, config),
        matrix=matrix,
        shape=(deltas[0].shape[0], deltas[0].shape[1]),
        config=config,
        settings=settings(**options),
        **(values | more),
    )


def merge(
    method: str,
    deltas: Iterable[Tensor | LowRank],
    config: GCWMConfig = DOUBLE,
    *,
    weights: Sequence[float] | None = None,
    names: list[str] | None = None,
    **options: Any,
) -> Any:
    """Δ_merge after the last of a sequence of updates, all of them active."""
    deltas = list(deltas)
    names = names or [f"u{i}" for i in range(len(deltas))]
    weights = list(weights or [1.0] * len(deltas))
    previous: Any = None
    carried: dict[str, Any] = {}
    for t in range(1, len(deltas) + 1):
        present = bool(squared_norm(deltas[t - 1]))
        step = merge_step(
            method,
            deltas[:t],
            config,
            weights=weights[:t],
            names=names[:t],
            previous=previous,
            carried=carried,
            arriving=deltas[t - 1] if present else None,
            norms=[squared_norm(delta) ** 0.5 for delta in deltas[:t] if squared_norm(delta)],
            **options,
        )
        previous = get_method(method).merge(step).merged
    return previous


BOUND = 4 * rounding(24)
"""A few products or sums over matrices up to 24 wide."""


def close(actual: Any, expected: Any, tolerance: float = BOUND) -> None:
    torch.testing.assert_close(
        torch.as_tensor(actual, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        rtol=tolerance,
        atol=tolerance,
    )
