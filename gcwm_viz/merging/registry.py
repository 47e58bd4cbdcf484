"""The merge methods by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import LayerGeometry
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.merging.gcwm import LayerMerge, merge_with_geometry


@dataclass(frozen=True)
class MergeStep:
    """What a method may look at when it merges one matrix at one step.

    deltas, weights: active updates (d_out, d_in) that touch the matrix, the arriving one last, with their ω.
    geometry: their shared geometry. previous: Δ_merge,t−1, None at step 1. arrived: how many updates have arrived.
    """

    deltas: Sequence[Update]
    weights: Sequence[float]
    geometry: LayerGeometry
    previous: Tensor | None
    arrived: int


@dataclass(frozen=True)
class MergeMethod:
    """A named data-free merge method. ``merge`` returns Δ_merge, or a :class:`LayerMerge` where it has branches."""

    name: str
    source: str
    summary: str
    merge: Callable[[MergeStep, GCWMConfig], LayerMerge | Tensor]


def _gcwm(step: MergeStep, config: GCWMConfig) -> LayerMerge:
    return merge_with_geometry(step.deltas, step.weights, step.geometry, config)


METHODS: dict[str, MergeMethod] = {
    method.name: method
    for method in (
        MergeMethod("gcwm", "arXiv 2605.09608", "geometry-conflict gate between plain and geometry branch", _gcwm),
    )
}


def get_method(name: str) -> MergeMethod:
    """Raises :class:`InputError` for an unknown name."""
    if name not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
