"""How much of an update lies outside the target matrices, and how much of it is rounding."""

import math
from collections.abc import Sequence

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.linalg.lowrank import squared_norm
from gcwm_viz.updates.adapter import AdapterUpdate
from gcwm_viz.updates.energy import HALF_PRECISION, squared_difference, squared_rounding
from gcwm_viz.updates.groups import GROUPS, Groups, column
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import CheckpointUpdate

OUTSIDE = 0.01
"""Share of an update's energy outside the target matrices above which it is reported: a tenth of its norm. Below it,
at least 99.5 % of the norm is merged."""

ROUNDING = 0.01
"""Share of an update's norm (not of its energy) above which half-precision rounding is reported. It is an error in
every direction of every matrix, which no method can separate from the update. The rms error of a weight is some 0.16 %
of it in bfloat16, 0.02 % in float16: an update below a sixth or a fiftieth of the weights' norm exceeds the
threshold."""


def share_notes(share: dict[str, float], outside: str = "keep") -> list[str]:
    """Sentences on the values of :func:`outside_share` that exceed a threshold. ``outside``: the setting of that
    name."""
    notes = []
    if share["outside_share"] > OUTSIDE:
        notes.append(
            f"{share['outside_share']:.1%} of its energy lies outside the target matrices and is "
            f"{'not merged' if outside == 'keep' else f'merged by a {outside}'}: {parts_outside(share)}"
        )
    if share["rounding"] > ROUNDING:
        notes.append(f"half-precision rounding is {share['rounding']:.1%} of this update")
    return notes


def parts_outside(share: dict[str, float]) -> str:
    """The groups outside the target matrices with their shares of ‖Δ‖², the largest first."""
    parts = {part: share[column(part)] for part in sorted(GROUPS, key=lambda part: -share[column(part)])}
    return ", ".join(f"{part} {energy:.1%}" for part, energy in parts.items() if energy >= 0.0005)


def outside_share(
    base: CheckpointIndex,
    source: UpdateSource,
    keys: Sequence[MatrixKey],
    rounding: dict[str, float] | None = None,
) -> dict[str, float]:
    """Norms of one update, read tensor by tensor (large ones in slices of rows), accumulated in float64.

    ``total_norm`` ‖Δ‖_F over every tensor that both have, ``target_norm`` over ``keys``; ``outside_share`` =
    1 − target²/total² in [0, 1], NaN for an update of zero; ``outside_biases``, ``outside_head``, … are its parts by
    group (``groups.GROUPS``) and add up to it. ``rounding``: estimated ‖rounding error of Δ‖/‖Δ‖ over
    the target matrices of a half-precision checkpoint, the base taken as exact (of what came between two
    checkpoints, both are rounded); NaN for adapters, update tensors and
    wider checkpoints. A strength scales the norms alone. The argument of that name receives the same of every matrix
    that was rounded, by name. Raises InputError as ``UpdateSource.delta`` does.
    """
    target = noise = 0.0
    half = False
    scale = source.strength**2
    checkpoints = [part for part in source.parts if isinstance(part, CheckpointUpdate)]
    whole = {name for part in source.parts if isinstance(part, AdapterUpdate) for name in part.whole}
    for key in source.touched(keys):
        source.check(key)
        squared = error = 0.0
        for part in checkpoints:
            if key.name not in part.tensors or key.name in whole:
                continue
            info = part.tensors[key.name]
            squared = scale * squared_difference(info, base.stored(key.name))
            # A frozen matrix was not rounded again.
            if squared > 0 and info.dtype in HALF_PRECISION:
                error += scale * squared_rounding(info)
        if source not in checkpoints:
            delta = source.delta(key)
            squared = 0.0 if delta is None else squared_norm(delta)
        if error > 0 and squared > 0:
            half, noise = True, noise + error
            if rounding is not None:
                rounding[key.name] = math.sqrt(error / squared)
        target += squared
    by_group, groups = dict.fromkeys(GROUPS, 0.0), Groups(base)
    for name, squared in source.outside(keys):
        by_group[groups.group(name)] += squared
    outside = math.fsum(by_group.values())
    total = target + outside
    return {
        "total_norm": math.sqrt(total),
        "target_norm": math.sqrt(target),
        "outside_share": outside / total if total > 0 else math.nan,
        **{column(part): squared / total if total > 0 else math.nan for part, squared in by_group.items()},
        "rounding": math.sqrt(noise / target) if half else math.nan,
    }
