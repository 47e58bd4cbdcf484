"""Integrate, integrate with less, hold, or redundant with another: what is expected of each update in a plan.

An update is judged beside the others of a plan, by the mean score over tasks that is expected with it whole, with less
of it, and without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
from scipy.stats import norm

from gcwm_viz.decide.forecast import Belief
from gcwm_viz.decide.knowledge import STRENGTHS, Array
from gcwm_viz.errors import InputError
from gcwm_viz.statistics.means import Z95

Choice = Literal["integrate", "less", "hold", "redundant"]
CHOICES: tuple[Choice, ...] = ("integrate", "less", "hold", "redundant")
SMALL = 0.01
"""A difference of mean scores that does not count: a verdict within this of the best one is right."""
CLEAR = 0.03
"""What an update must bring where another is missing for the two to be redundant."""


@dataclass(frozen=True)
class Verdict:
    """On one update of a plan. Scores are means over tasks.

    strength: what to integrate it with, 0 for none. other: index of the update that makes it redundant. gain: what the
    plan gains by it at that strength (of an update that is left out: at strength 1), with its 95 % interval; harm: the
    probability that taking it whole lowers the score. expected: of the whole, less and nothing of it.
    """

    choice: Choice
    strength: float
    gain: float
    low: float
    high: float
    harm: float
    expected: tuple[float, float, float]
    other: int | None = None

    @property
    def certain(self) -> bool:
        """Whether the interval of the gain does not cover zero."""
        return self.low > 0 or self.high < 0


def levels(plan: Sequence[float], update: int, scale: float = 1.0) -> list[tuple[float, ...]]:
    """The plan with this update whole, with less of it, and without it. ``scale``: strength of a whole update."""
    return [
        tuple(scale * strength if k == update else s for k, s in enumerate(plan))
        for strength in (1.0, STRENGTHS[0], 0.0)
    ]


def looked_at(plan: Sequence[float], scale: float = 1.0) -> Array:
    """Every plan, (p, t), that the verdicts on the updates of ``plan`` compare: for :func:`judge`."""
    size = range(len(plan))
    plans = {level for update in size for level in levels(plan, update, scale)}
    for i, j in permutations(size, 2):  # the i-th whole or not, the j-th left out
        plans |= {
            tuple(strength if k == i else 0.0 if k == j else s for k, s in enumerate(plan)) for strength in (scale, 0.0)
        }
    return np.array(sorted(plans))


def judge(belief: Belief, plan: Sequence[float], update: int, scale: float = 1.0) -> Verdict:
    """Held where no strength is expected to bring anything. Less of it where that is better by :data:`SMALL`.

    Raises :class:`InputError` where the belief lacks one of :func:`levels`; :func:`looked_at` has all that count.
    """
    places = [_place(belief, each) for each in levels(plan, update, scale)]
    whole, less, without = places
    expected = (float(belief.mean_p[whole]), float(belief.mean_p[less]), float(belief.mean_p[without]))
    at = 2
    if max(expected[:2]) > expected[2]:
        at = 0 if expected[0] > expected[2] and expected[0] >= expected[1] - SMALL else 1
    taken = whole if at in (0, 2) else less
    gain, sd = belief.difference(taken, without)
    full, full_sd = belief.difference(whole, without)
    harm = float(norm.cdf(-full / full_sd)) if full_sd > 0 else float(full < 0)
    choice = CHOICES[at]
    other = _twin(belief, plan, update, scale)
    if other is not None and (choice == "hold" or gain < SMALL):
        choice = "redundant"
    strength = 0.0 if choice in ("hold", "redundant") else scale * (1.0, STRENGTHS[0])[at]
    return Verdict(choice, strength, gain, gain - Z95 * sd, gain + Z95 * sd, harm, expected, other)


def _twin(belief: Belief, plan: Sequence[float], update: int, scale: float) -> int | None:
    """The update in whose place this one would bring a clear gain, and which brings little beside it."""
    found, most = None, CLEAR
    for k, strength in enumerate(plan):
        if k == update or not strength:
            continue
        neither = tuple(0.0 if i in (k, update) else s for i, s in enumerate(plan))
        instead = tuple(scale if i == update else s for i, s in enumerate(neither))
        both = tuple(scale if i == update else s for i, s in enumerate(plan))
        places = [belief.index(each) for each in (neither, instead, both)]
        if None in places:
            continue
        nothing, alone, together = (float(belief.mean_p[place]) for place in places)
        if alone - nothing > most and together - alone < SMALL:
            found, most = k, alone - nothing
    return found


def _place(belief: Belief, plan: Sequence[float]) -> int:
    at = belief.index(plan)
    if at is None:
        raise InputError(f"plan {tuple(plan)} is none of those that are looked at")
    return at
