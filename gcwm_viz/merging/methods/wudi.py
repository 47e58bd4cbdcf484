"""The plain branch alone: weighted WUDI without geometry (arXiv 2503.08099), as a method of its own."""

from dataclasses import replace

from gcwm_viz.linalg.lowrank import norm
from gcwm_viz.merging.displaced import build_dtype, displaced, relative_shift
from gcwm_viz.merging.merge import Branch, Merge, MergeMethod
from gcwm_viz.merging.quadratic import build_quadratic, total
from gcwm_viz.merging.solvers import solve
from gcwm_viz.merging.step import MergeStep


def wudi(step: MergeStep) -> Merge:
    """M(Δ) of METHOD section 2 by the configured solver."""
    active = step.active()
    if not active:
        return Merge.of(step.zeros())
    build = build_dtype(step.config, active[0][1].device)
    deltas = [delta.to(dtype=build) for _, delta, _ in active]
    start = total(deltas).to(dtype=step.work_dtype)
    solution = solve(build_quadratic(deltas, [weight for _, _, weight in active]), step.config)
    solution = replace(solution, start_norm=norm(start))
    displacement = solution.displacement_oi
    shift = relative_shift(displacement, start)
    return Merge(branches={"plain": Branch(displaced(start, displacement), solution, shift)})


WUDI = MergeMethod(
    name="wudi",
    source="arXiv 2503.08099",
    summary="the plain branch alone: least interference between updates",
    merge=wudi,
    main=("solver", "mu_rel"),
    branches=("plain",),
    factored=lambda config: config.solver == "exact",
    eta=None,
)
