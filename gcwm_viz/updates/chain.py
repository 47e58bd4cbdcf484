"""Whether updates are the states θ_1, θ_2, … of one training in sequence, given as experts of one base.

Of such a pair Δ_{i+1} = Δ_i + d, where d is what was trained later. So the coefficient of Δ_{i+1} on Δ_i,
c = ⟨Δ_i, Δ_{i+1}⟩/‖Δ_i‖², is near 1 in every matrix, while for experts trained independently c is near 0, with
either sign. c > ½ means ‖Δ_{i+1} − Δ_i‖ < ‖Δ_{i+1}‖. On the lab the states of training in sequence have c from
0.87 to 1.02, and the experts from −0.09 to 0.11.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.updates.matrices import MatrixKey, target_matrices
from gcwm_viz.updates.source import UpdateSource

# At most so many matrices of every update are read, none with more parameters where there are smaller ones.
_MATRICES, _PARAMETERS = 6, 1 << 24
_COEFFICIENT = (0.5, 1.5)
# Below this cosine the former accounts for less than 1 % of the later's energy.
_LEAST_COSINE = 0.1
# A pair that differs by a smaller share of the norm is one update twice rather than a chain.
_SAME = 0.1


@dataclass(frozen=True)
class _Overlap:
    """⟨a, b⟩, ‖a‖² and ‖b‖² of the former and the later update of one matrix; NaN where the later has none."""

    inner: float
    former: float
    later: float

    @property
    def coefficient(self) -> float:
        return self.inner / self.former

    @property
    def contained(self) -> bool:
        least, most = _COEFFICIENT
        return least < self.coefficient < most and self.inner > _LEAST_COSINE * math.sqrt(self.former * self.later)

    @property
    def distance(self) -> float:
        """‖b − a‖/‖b‖."""
        return math.sqrt(max(0.0, self.former + self.later - 2 * self.inner) / self.later)


def chain_note(base: CheckpointIndex, sources: Sequence[UpdateSource]) -> str:
    """Which consecutive updates contain the one before or nearly equal it, judged by a few matrices; empty if none.

    Reads up to six matrices of every update, two of them in memory at a time, and requires all of them to agree. Raises
    InputError as ``UpdateSource.delta`` does.
    """
    overlaps: list[list[_Overlap]] = [[] for _ in sources[1:]]
    for key in _sampled(target_matrices(base)):
        former = None
        for position, source in enumerate(sources):
            update = source.delta(key)
            # As it was trained: a strength does not make a chain of experts, nor hide one.
            later = None if update is None else dense(update).double().flatten() / source.strength
            if position and former is not None:
                overlaps[position - 1].append(_overlap(former, later))
            former = later
    names = [source.name for source in sources]
    notes: list[str] = []
    runs = [names[:1]]
    coefficients: list[float] = []
    for (former_name, name), pair in zip(pairwise(names), overlaps, strict=True):
        linked = bool(pair) and all(overlap.contained for overlap in pair)
        distance = max((overlap.distance for overlap in pair), default=math.inf)
        if linked and distance < _SAME:
            notes.append(f"{former_name} and {name} are nearly the same update (apart by {distance:.1%} of its norm)")
        elif linked:
            runs[-1].append(name)
            coefficients += [overlap.coefficient for overlap in pair]
            continue
        runs.append([name])
    chains = [" → ".join(run) for run in runs if len(run) > 1]
    if chains:
        notes.append(
            f"each seems to have been trained on from the one before: {', '.join(chains)} (in the matrices that were "
            f"compared the later update holds the former {min(coefficients):.2f} to {max(coefficients):.2f} times); "
            "merged as they are, an earlier update counts again in every later one: give EARLIER..LATER, what came "
            "between two of them, or the checkpoints as the states of a training with --state"
        )
    return "; ".join(notes)


def _overlap(former: torch.Tensor, later: torch.Tensor | None) -> _Overlap:
    if later is None:
        return _Overlap(math.nan, math.nan, math.nan)
    return _Overlap(float(former @ later), float(former @ former), float(later @ later))


def _sampled(keys: Sequence[MatrixKey]) -> list[MatrixKey]:
    """One matrix per family, from the middle of the layers that have it, and an even selection of these."""
    families: dict[str, list[MatrixKey]] = {}
    for key in keys:
        families.setdefault(key.family, []).append(key)
    middle = [members[len(members) // 2] for members in families.values()]
    fitting = [key for key in middle if key.parameters <= _PARAMETERS] or [min(middle, key=lambda key: key.parameters)]
    count = min(_MATRICES, len(fitting))
    return [fitting[index * len(fitting) // count] for index in range(count)]
