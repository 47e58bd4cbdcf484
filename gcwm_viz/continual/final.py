"""The final state of one matrix alone: no signals, and no earlier step where none enters it.

With constant η, S_T = ηΔ_merge,T, and Δ_merge,T is a merge of the updates that are active at step T. Earlier merges
enter it where the method is defined one update at a time, where Δ_merge,T−1 is the anchor, and where η changes from
step to step.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from gcwm_viz.continual.branches import Branches
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.merges import Active, Merges, named_decompositions
from gcwm_viz.continual.state import entering, state_of
from gcwm_viz.geometry.config import SOLVER_SETTINGS, GCWMConfig
from gcwm_viz.geometry.deferred import DeferredGeometry
from gcwm_viz.geometry.layer import LayerGeometry, cross_norms, geometry_of
from gcwm_viz.geometry.shared import shared
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.merging.merge import NAN, Merge
from gcwm_viz.merging.registry import get_method
from gcwm_viz.updates.matrices import MatrixKey


def steps_to_merge(settings: RunSettings, steps: int) -> range:
    """The steps whose merges the final state of ``steps`` updates takes."""
    earlier = get_method(settings.method).sequential or settings.continual.policy == "current_anchor"
    return range(1, steps + 1) if earlier else entering(steps, settings.continual)


def final_merges(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    layers: int | None = None,
) -> dict[int, Update]:
    """Δ_merge of the steps that enter S_T, by step; arguments as :func:`gcwm_viz.continual.matrix.steps` takes them.

    (d_out, d_in) in float32 on the updates' device, factored where a run stores factors. On the CPU they are those of a
    complete run bit by bit; a GPU may mix two branches with another rounding than the CPU that reads them back.

    Raises :class:`InputError` where a merge is not finite or a decomposition fails, naming the matrix.
    """
    return {number: update for number, _, update, _ in _merged(key, names, deltas, settings, layers)}


@dataclass(frozen=True)
class Gated:
    """What one step merges of a matrix, before and after the gate: its branches as a run stores them, the share α of
    the second and the mode, as :func:`gcwm_viz.merging.merge.mixed` takes them, and the conflict g that decided α; NaN
    where no gate did."""

    branches: Branches
    alpha: float
    mode: str
    conflict: float


def gated_merges(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    layers: int | None = None,
) -> dict[int, Gated]:
    """:func:`final_merges` with the branches that another gate mixes anew."""
    gate = get_method(settings.method).conflict_gate
    found = {}
    for number, merge, _, geometry in _merged(key, names, deltas, settings, layers):
        branches = {name: branch.update.to(dtype=torch.float32) for name, branch in merge.branches.items()}
        conflict = geometry.conflict if gate and geometry.present else NAN
        found[number] = Gated(Branches(branches), merge.alpha, merge.mode, conflict)
    return found


def _merged(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    layers: int | None,
) -> Iterator[tuple[int, Merge, Update, LayerGeometry]]:
    """(step, merge, Δ_merge, geometry) of the steps that enter S_T."""
    merges = Merges(key, names, deltas, settings, layers)
    kept = entering(len(names), settings.continual)
    with named_decompositions(key):
        for number in steps_to_merge(settings, len(names)):
            active = merges.active(number)
            geometry = _geometry(active, settings.gcwm)
            merge, update = merges.merge(active, geometry)
            if number in kept:
                yield number, merge, update, geometry


def final_state(
    key: MatrixKey,
    names: Sequence[str],
    deltas: Sequence[Update | None],
    settings: RunSettings,
    layers: int | None = None,
) -> Update:
    """S_T of one matrix from :func:`final_merges`."""
    merged = final_merges(key, names, deltas, settings, layers)
    return state_of(len(names), merged.__getitem__, settings.continual)


def _geometry(active: Active, config: GCWMConfig) -> LayerGeometry:
    """The geometry of the active updates, computed only for a method that reads it."""
    deltas = [member.delta for member in active.members if member.delta is not None]
    weights = tuple(active.weights)

    def compute() -> LayerGeometry:
        sar = cross_norms(deltas, [member.analysis for member in active.members])
        return geometry_of([member.gate for member in active.members], sar, weights, config)

    def compute_once() -> LayerGeometry:
        if active.anchor is not None:  # another matrix at every step
            return compute()
        same = replace(config, **{name: getattr(GCWMConfig, name) for name in SOLVER_SETTINGS})
        return shared((tuple(map(id, deltas)), weights, same), deltas, compute)

    present = tuple(index for index, weight in enumerate(weights) if weight > 0)
    return DeferredGeometry(present, compute_once)
