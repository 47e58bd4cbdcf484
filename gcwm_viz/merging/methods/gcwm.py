"""GCWM as a merge method: plain and geometry branch under the conflict gate (arXiv 2605.09608)."""

from gcwm_viz.merging.gcwm import merge_with_geometry
from gcwm_viz.merging.merge import Branch, Merge, MergeMethod
from gcwm_viz.merging.step import MergeStep


def gcwm(step: MergeStep) -> Merge:
    """Both branches of equation 10, mixed by the gate of the active updates."""
    if not step.deltas:
        return Merge.of(step.zeros())
    layer = merge_with_geometry(step.deltas, step.weights, step.geometry, step.config)
    return Merge(
        branches={
            "plain": Branch(layer.plain, layer.plain_solution, layer.plain_shift),
            "geo": Branch(layer.geo, layer.geo_solution, layer.geo_shift),
        },
        alpha=layer.alpha,
        mode=layer.mode,
        displacement=layer.displacement,
    )


GCWM = MergeMethod(
    name="gcwm",
    source="arXiv 2605.09608",
    summary="geometry-conflict gate between plain and geometry branch",
    merge=gcwm,
    main=("solver", "mu_rel"),
    branches=("plain", "geo"),
    factored=lambda config: config.solver == "exact",
    conflict_gate=True,
    eta=None,
)
