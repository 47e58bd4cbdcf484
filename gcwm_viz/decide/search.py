"""Which plan to measure next: the expected improvement over the best one so far.

A plan is a strength for every update. With few updates every plan is looked at; measuring, which takes a merge and the
scores of a model, is what costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import norm

from gcwm_viz.decide.forecast import Belief, Forecast, believe
from gcwm_viz.decide.knowledge import STRENGTHS, Array, Knowledge

MOST_SUBSETS = 8
"""Updates of which every subset is looked at; of more, subsets that differ from a good one in few updates."""
WORTH = 0.002
"""Expected improvement below which another measurement is not worth its time, in units of the score."""


@dataclass(frozen=True)
class Measured:
    """``value``: change of the mean score from the base; ``error``: its standard error. Mean over tasks, on the split
    that decides."""

    plan: tuple[float, ...]
    value: float
    error: float


def candidate_plans(count: int, around: Sequence[Sequence[float]] = ()) -> Array:
    """Plans (p, t) worth a look: every subset whole, every subset with less of everything, and every subset with less
    of one update.

    Of more than :data:`MOST_SUBSETS` updates, of the subsets only everything, nothing, those of the plans in
    ``around``, and, all of it whole, those that differ from one of them in at most two updates.
    """
    less = STRENGTHS[0]
    if count <= MOST_SUBSETS:
        centres = whole = {tuple(map(float, bits)) for bits in product((0, 1), repeat=count)}
    else:
        centres = {(1.0,) * count, (0.0,) * count, *(tuple(float(s > 0) for s in plan) for plan in around)}
        whole = {_flipped(plan, {i, j}) for plan in centres for i in range(count) for j in range(i, count)} | centres
    plans = whole | {tuple(less * s for s in plan) for plan in centres}
    for one in range(count):
        plans |= {tuple(less if k == one else s for k, s in enumerate(plan)) for plan in centres}
    return np.array(sorted(plans))


def distinct(plans_pt: Array) -> Array:
    """The plans without those that differ by rounding alone."""
    _, first = np.unique(plans_pt.round(9), axis=0, return_index=True)
    found: Array = plans_pt[first]
    return found


def _flipped(plan: Sequence[float], places: set[int]) -> tuple[float, ...]:
    return tuple(1.0 - s if k in places else s for k, s in enumerate(plan))


def expected_improvement(belief: Belief, best: float) -> Array:
    """E max(0, v − best) of every plan, (p,), in units of the score."""
    sd = belief.sd_p
    gap = belief.mean_p - best
    z = np.divide(gap, sd, out=np.zeros_like(gap), where=sd > 1e-9)
    found: Array = np.where(sd > 1e-9, gap * norm.cdf(z) + sd * norm.pdf(z), np.maximum(gap, 0.0))
    return found


def search(
    forecast: Forecast,
    known: Knowledge,
    plans_pt: Array,
    measure: Callable[[tuple[float, ...]], Measured],
    measured: Sequence[Measured] = (),
    worth: float = WORTH,
) -> Iterator[tuple[Measured, Belief]]:
    """Measure one plan after another, each time that of the greatest :func:`improvement`; ends where that is below
    ``worth``. Yields what was measured and the belief after it."""
    done = list(measured)
    belief = _after(forecast, known, plans_pt, done)
    while (at := next_plan(belief, done, worth)) is not None:
        done.append(measure(tuple(map(float, plans_pt[at]))))
        belief = _after(forecast, known, plans_pt, done)
        yield done[-1], belief


def _after(forecast: Forecast, known: Knowledge, plans_pt: Array, done: Sequence[Measured]) -> Belief:
    return believe(forecast, known, plans_pt, [(m.plan, m.value, m.error) for m in done])


def next_plan(belief: Belief, measured: Sequence[Measured], worth: float = WORTH) -> int | None:
    """Index of the plan to measure next, None where none is worth it."""
    gain = improvement(belief, measured)
    at = int(gain.argmax())
    return at if gain[at] > worth else None


def improvement(belief: Belief, measured: Sequence[Measured]) -> Array:
    """Expected improvement of every plan, (p,), over the best of those that were measured and of the base, whose change
    is 0 by definition; 0 for these themselves."""
    known = {index for index in (belief.index(m.plan) for m in measured) if index is not None}
    best = max((float(belief.mean_p[index]) for index in known), default=0.0)
    gain = expected_improvement(belief, max(best, 0.0))
    gain[list(known)] = 0.0
    return gain
