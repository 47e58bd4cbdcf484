"""How much of an update lies outside the target matrices, and how much of it is rounding."""

import math
from collections.abc import Sequence

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.linalg.lowrank import squared_norm
from gcwm_viz.updates.energy import HALF_PRECISION, squared_difference, squared_rounding
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.sources import CheckpointUpdate, UpdateSource

OUTSIDE, ROUNDING = 0.001, 0.01
"""Shares of an update from which what is ignored, and its half-precision rounding, are reported."""


def share_notes(share: dict[str, float]) -> list[str]:
    """What of :func:`outside_share` a user should know."""
    notes = []
    if share["outside_share"] > OUTSIDE:
        notes.append(f"{share['outside_share']:.1%} of its energy lies outside the target matrices and is not merged")
    if share["rounding"] > ROUNDING:
        notes.append(f"half-precision rounding is {share['rounding']:.1%} of this update")
    return notes


def outside_share(base: CheckpointIndex, source: UpdateSource, keys: Sequence[MatrixKey]) -> dict[str, float]:
    """Norms of one update, read tensor by tensor (large ones in slices of rows), accumulated in float64.

    ``total_norm`` ‖Δ‖_F over every tensor that both have, ``target_norm`` over ``keys``; ``outside_share`` =
    1 − target²/total² in [0, 1], NaN for an update of zero. ``rounding``: estimated ‖rounding error of Δ‖/‖Δ‖ over
    the target matrices of a half-precision checkpoint, the base taken as exact; NaN for adapters, update tensors and
    wider checkpoints. Raises InputError as ``UpdateSource.delta`` does.
    """
    target = noise = 0.0
    half = False
    checkpoint = next((part for part in source.parts if isinstance(part, CheckpointUpdate)), None)
    for key in source.touched(keys):
        source.check(key)
        squared = 0.0
        if checkpoint is not None and key.name in checkpoint.tensors:
            info = checkpoint.tensors[key.name]
            squared = squared_difference(info, base.tensors[key.name])
            # A frozen matrix was not written again, so nothing of it was rounded.
            if squared > 0 and info.dtype in HALF_PRECISION:
                half = True
                noise += squared_rounding(info)
        if source is not checkpoint:
            delta = source.delta(key)
            squared = 0.0 if delta is None else squared_norm(delta)
        target += squared
    outside = math.fsum(squared for _, squared in source.outside(keys))
    total = target + outside
    return {
        "total_norm": math.sqrt(total),
        "target_norm": math.sqrt(target),
        "outside_share": outside / total if total > 0 else math.nan,
        "rounding": math.sqrt(noise / target) if half else math.nan,
    }
