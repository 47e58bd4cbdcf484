"""What a task is to a step or path: learned before it, added by it, or still to come."""

from collections.abc import Sequence
from typing import Literal

Role = Literal["earlier", "arrived", "later", "other"]


def role(task: str, step: int, order: Sequence[str], start: int | None = None) -> Role:
    """Role of ``task`` on the way from the state after ``start`` (by default ``step`` − 1) to that after ``step``.

    ``order``: update names by arrival, which a task pairs with by name. ``arrived``: its update came on that way.
    ``other``: no update has the task's name. At the base (step 0) every task is later.
    """
    if task not in order:
        return "other"
    place = order.index(task) + 1
    if place <= (step - 1 if start is None else start):
        return "earlier"
    return "arrived" if place <= step else "later"


def by_arrival(tasks: Sequence[str], order: Sequence[str]) -> list[str]:
    """``tasks`` without repetition in the order of arrival, those without an update of their name last."""
    known = dict.fromkeys(tasks)
    return [*(task for task in order if task in known), *(task for task in known if task not in order)]
