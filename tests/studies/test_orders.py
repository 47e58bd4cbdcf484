"""Orders of arrival: the one given first, none twice, and the draws that results already rest on."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gcwm_viz.errors import InputError
from gcwm_viz.studies.orders import every_order, shuffles, task_orders


def every(seed: int = 0) -> Iterator[tuple[int, ...]]:
    return every_order(4, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("drawn", [lambda seed=0: shuffles(4, seed), every])
def test_orders_begin_with_the_one_given_and_never_repeat(drawn: Any) -> None:
    orders = task_orders("abcd", 24, drawn())
    assert orders[0] == tuple("abcd")
    assert len(set(orders)) == 24
    assert task_orders("abcd", 5, drawn()) == orders[:5]
    assert task_orders("abcd", 5, drawn(seed=1)) != orders[:5]
    for count in (0, 25):
        with pytest.raises(InputError, match="expected 1 to 24 for 4 updates"):
            task_orders("abcd", count, drawn())


def test_a_sweep_draws_as_it_always_did() -> None:
    orders = ["".join(order) for order in task_orders("abcd", 6, shuffles(4, 0))]
    assert orders == ["abcd", "abdc", "acdb", "dcab", "dacb", "cbad"]
    orders = ["".join(order) for order in task_orders("abcd", 6, shuffles(4, 1))]
    assert orders == ["abcd", "bdca", "acdb", "dabc", "adbc", "abdc"]
