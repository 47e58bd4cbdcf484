"""An order of arrival that brings most at every step."""

from __future__ import annotations

import numpy as np

from gcwm_viz.decide.outlook import Outlook


def best_first(now: Outlook) -> list[int]:
    """The updates of the recommended plan, as places: first the one of the highest expectation alone, then each time
    the one with which the score is expected to be highest. The final model is the same in any order."""
    left = [k for k, strength in enumerate(now.plan) if strength]
    order: list[int] = []
    while left:
        plans = np.array([[s if k in (*order, one) else 0.0 for k, s in enumerate(now.plan)] for one in left])
        best = int(now.belief_of(plans).mean_p.argmax())
        order.append(left.pop(best))
    return order
