"""The merge methods by name."""

from collections.abc import Callable
from dataclasses import dataclass

from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.merging.arithmetic import mean, task_arithmetic
from gcwm_viz.merging.dare import dare, dare_ties
from gcwm_viz.merging.gcwm import LayerMerge, merge_with_geometry
from gcwm_viz.merging.localize import localize_and_stitch
from gcwm_viz.merging.opcm import opcm
from gcwm_viz.merging.step import MergeStep
from gcwm_viz.merging.ties import ties
from gcwm_viz.merging.wudi import PlainMerge, wudi

Outcome = LayerMerge | PlainMerge | Update


@dataclass(frozen=True, kw_only=True)
class MergeMethod:
    """A named data-free merge method.

    merge: returns the unscaled Δ_merge, alone or with branches and the solver's account. options: its names in
    :class:`~gcwm_viz.merging.settings.MethodSettings`. eta: its default η, None for that of the preset. sequential:
    defined one update at a time, so that the result depends on the order of updates.
    """

    name: str
    source: str
    summary: str
    merge: Callable[[MergeStep, GCWMConfig], Outcome]
    options: tuple[str, ...] = ()
    eta: float | None = 1.0
    sequential: bool = False


def _gcwm(step: MergeStep, config: GCWMConfig) -> Outcome:
    if not step.deltas:
        return step.zeros(config)
    return merge_with_geometry(step.deltas, step.weights, step.geometry, config)


METHODS: dict[str, MergeMethod] = {
    method.name: method
    for method in (
        MergeMethod(
            name="gcwm",
            source="arXiv 2605.09608",
            summary="geometry-conflict gate between plain and geometry branch",
            merge=_gcwm,
            eta=None,
        ),
        MergeMethod(
            name="wudi",
            source="arXiv 2503.08099",
            summary="the plain branch alone: least interference between updates",
            merge=wudi,
            eta=None,
        ),
        MergeMethod(
            name="task-arithmetic", source="arXiv 2212.04089", summary="sum of the updates", merge=task_arithmetic
        ),
        MergeMethod(name="mean", source="arXiv 2203.05482", summary="mean of the updates", merge=mean),
        MergeMethod(
            name="ties",
            source="arXiv 2306.01708",
            summary="largest entries, one sign for each, mean of those that agree",
            merge=ties,
            options=("ties_keep",),
        ),
        MergeMethod(
            name="dare",
            source="arXiv 2311.03099",
            summary="random entries, rescaled, then summed",
            merge=dare,
            options=("dare_drop", "dare_seed"),
        ),
        MergeMethod(
            name="dare-ties",
            source="arXiv 2311.03099",
            summary="random entries, rescaled, then TIES",
            merge=dare_ties,
            options=("dare_drop", "dare_seed", "ties_keep"),
        ),
        MergeMethod(
            name="localize-and-stitch",
            source="arXiv 2408.13656",
            summary="largest entries of each update, stitched without data",
            merge=localize_and_stitch,
            options=("localize_keep",),
        ),
        MergeMethod(
            name="opcm",
            source="arXiv 2501.09522",
            summary="each arriving update projected away from the state, norm held",
            merge=opcm,
            options=("opcm_energy",),
            sequential=True,
        ),
    )
}


def get_method(name: str) -> MergeMethod:
    """Raises :class:`InputError` for an unknown name."""
    if name not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]
