"""The smallest set of matrices that brings back a chosen share of what earlier tasks lost.

Matrices are ranked by their attribution, Σ over the earlier tasks. The least number of leading ones that recovers the
share is searched by doubling and bisection; then each is left out again where the share holds without it. The result
is small, not the smallest of all sets, which would need 2^K scorings; where effects add up, none of up to sixteen
matrices can be left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from gcwm_viz.attribution.restore import Restoration
from gcwm_viz.errors import InputError
from gcwm_viz.probes.values import TaskValues

MOST_PRUNED = 16
"""A set of more matrices is not pruned: every one costs a scoring."""


@dataclass(frozen=True)
class Trial:
    """A set of matrices put back. ``recovered``: share of the loss that the earlier tasks gained over the path, all
    together, 1 = all of it. ``cost``: share of what the arrived tasks gained that is given up for it, 1 = all of it;
    NaN where they gained nothing."""

    matrices: tuple[str, ...]
    recovered: float
    cost: float


def smallest_set(restoration: Restoration, ranked: Sequence[str], share: float) -> Iterator[Trial]:
    """Every trial of the search as it is scored, the result last.

    ``restoration``: of one split, with the tasks to judge by. ``ranked``: matrices, the most harmful first. ``share``:
    in (0, 1]. Raises :class:`InputError` where the earlier tasks lost nothing, and where all of ``ranked`` together
    recover less than the share.
    """
    if not 0 < share <= 1:
        raise InputError(f"share: expected a number above 0 and at most 1, found {share}")
    judge = _judge(restoration)
    if not ranked:
        raise InputError(f"no matrix made these tasks worse from {restoration.ends.words}, so none could be put back")
    tried: dict[int, Trial] = {}

    def leading(count: int) -> Iterator[Trial]:
        if count not in tried:
            tried[count] = judge(tuple(ranked[:count]))
            yield tried[count]

    count, most = 1, len(ranked)
    while True:
        yield from leading(count)
        if tried[count].recovered >= share:
            break
        if count == most:
            best = max(tried.values(), key=lambda trial: trial.recovered)
            raise InputError(
                f"no set of these {most} matrices recovers {100 * share:.0f} % of the loss, the best tried "
                f"({len(best.matrices)}) recovers {100 * best.recovered:.0f} %"
            )
        count = min(2 * count, most)
    failing = max((k for k, trial in tried.items() if trial.recovered < share), default=0)
    while count - failing > 1:
        middle = (count + failing) // 2
        yield from leading(middle)
        count, failing = (middle, failing) if tried[middle].recovered >= share else (count, middle)
    best = tried[count]
    for name in reversed(best.matrices) if 1 < count <= MOST_PRUNED else ():
        trial = judge(tuple(other for other in best.matrices if other != name))
        yield trial
        best = trial if trial.recovered >= share else best
    yield best


def rank(attribution: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """Matrices that made ``tasks`` worse in all, the worst first; ``attribution``: rows of one path and split."""
    total = attribution[attribution["task"].isin(tasks)].groupby("matrix", sort=False)["value"].sum()
    return [str(name) for name in total[total > 0].sort_values(ascending=False, kind="stable").index]


def _judge(restoration: Restoration) -> Callable[[tuple[str, ...]], Trial]:
    role = restoration.roles
    before, after = (_losses(values) for values in (restoration.before, restoration.after))
    earlier = [name for name in after if role.get(name) == "earlier"]
    arrived = [name for name in after if role.get(name) == "arrived"]
    lost = sum(after[name] - before[name] for name in earlier)
    gained = sum(before[name] - after[name] for name in arrived)
    if not lost > 0:
        raise InputError(
            f"the loss of the earlier tasks ({', '.join(earlier) or 'there are none'}) did not rise from "
            f"{restoration.ends.words}, so there is nothing to recover"
        )

    def judge(matrices: tuple[str, ...]) -> Trial:
        now = _losses(restoration.measure(dict.fromkeys(matrices, 1.0)))
        recovered = sum(after[name] - now[name] for name in earlier) / lost
        given_up = sum(now[name] - after[name] for name in arrived)
        return Trial(matrices, recovered, given_up / gained if gained > 0 else math.nan)

    return judge


def _losses(values: Sequence[TaskValues]) -> dict[str, float]:
    return {task.name: float(task.metrics["nll"].mean()) for task in values if "nll" in task.metrics}
