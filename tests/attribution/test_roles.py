"""Roles of tasks at a step, and their order."""

from gcwm_viz.attribution.roles import by_arrival, role

ORDER = ["past", "capital", "index"]


def test_a_task_is_later_until_its_step_and_earlier_after_it() -> None:
    assert [role("capital", step, ORDER) for step in range(4)] == ["later", "later", "arrived", "earlier"]
    assert role("maths", 2, ORDER) == "other"


def test_tasks_come_in_order_of_arrival_and_those_without_an_update_last() -> None:
    assert by_arrival(["maths", "index", "past", "index"], ORDER) == ["past", "index", "maths"]
    assert by_arrival([], ORDER) == []
