"""The search for a smallest set, on effects that are known."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pytest
import torch

from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.search import Trial, rank, smallest_set
from gcwm_viz.errors import InputError
from gcwm_viz.probes.values import TaskValues


class Effects:
    """A step whose loss on an earlier task rises by ``harm`` of each matrix; the arrived task gains ``gain`` of it."""

    ends = Ends(1, 2)

    def __init__(self, harm: Mapping[str, float], gain: Mapping[str, float], role: str = "earlier") -> None:
        self.harm, self.gain = harm, gain
        self.roles = {"old": role, "new": "arrived"}
        self.before, self.after = self._values(set(harm)), self._values(set())
        self.scored = 0

    def measure(self, shares: Mapping[str, float]) -> list[TaskValues]:
        self.scored += 1
        return self._values({name for name, share in shares.items() if share == 1})

    def _values(self, undone: set[str]) -> list[TaskValues]:
        old = 1.0 + sum(value for name, value in self.harm.items() if name not in undone)
        new = 5.0 - sum(value for name, value in self.gain.items() if name not in undone)
        return [
            TaskValues(task, "dev", {"nll": torch.tensor([value, value], dtype=torch.float64)})
            for task, value in (("old", old), ("new", new))
        ]


def search(effects: Effects, ranked: Sequence[str], share: float) -> list[Trial]:
    restoration: Any = effects
    return list(smallest_set(restoration, ranked, share))


HARM = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}
GAIN = dict.fromkeys(HARM, 0.5)


@pytest.mark.parametrize(
    ("share", "least"), [(0.1, "a"), (0.4, "a"), (0.41, "ab"), (0.7, "ab"), (0.8, "abc"), (1.0, "abcd")]
)
def test_additive_effects_need_the_leading_matrices(share: float, least: str) -> None:
    best = search(Effects(HARM, GAIN), list(HARM), share)[-1]
    assert best.matrices == tuple(least)
    assert best.recovered == pytest.approx(sum(HARM[name] for name in least) / 10)
    assert best.cost == pytest.approx(0.5 * len(least) / 2)  # of the four matrices' gain


def test_what_the_share_does_not_need_is_left_out() -> None:
    """Ranked wrongly, the first matrix brings nothing and is dropped again."""
    best = search(Effects({"useless": 0.0, **HARM}, GAIN), ["useless", *HARM], 0.7)[-1]
    assert best.matrices == ("a", "b")


def test_no_matrix_of_the_result_can_be_left_out() -> None:
    harm = {f"m{k}": 1.0 + (7 * k % 5) for k in range(12)}
    effects = Effects(harm, dict.fromkeys(harm, 0.1))
    ranked = sorted(harm, key=lambda name: -harm[name])
    best = search(effects, ranked, 0.6)[-1]
    total = sum(harm.values())
    assert best.recovered >= 0.6
    assert all((sum(harm[n] for n in best.matrices) - harm[left]) / total < 0.6 for left in best.matrices)
    # Doubling and bisection over 12, then one scoring a matrix of the set.
    assert effects.scored <= 5 + 3 + len(best.matrices) + 1


def test_what_cannot_be_recovered_is_said() -> None:
    with pytest.raises(InputError, match=r"no set of these 2 matrices recovers 90 % of the loss"):
        search(Effects(HARM, GAIN), ["a", "b"], 0.9)
    with pytest.raises(InputError, match=r"did not rise from step 1 to step 2, so there is nothing to recover"):
        search(Effects(dict.fromkeys(HARM, -1.0), GAIN), list(HARM), 0.5)
    with pytest.raises(InputError, match="the earlier tasks \\(there are none\\) did not rise"):
        search(Effects(HARM, GAIN, role="later"), list(HARM), 0.5)
    with pytest.raises(InputError, match="share: expected a number above 0 and at most 1, found 0"):
        search(Effects(HARM, GAIN), list(HARM), 0)
    with pytest.raises(InputError, match="no matrix made these tasks worse"):
        search(Effects(HARM, GAIN), [], 0.5)


def test_without_an_arrived_task_the_cost_is_unknown() -> None:
    effects = Effects(HARM, GAIN)
    effects.roles = {"old": "earlier", "new": "later"}
    assert math.isnan(search(effects, list(HARM), 0.3)[-1].cost)


def test_the_ranking_adds_up_tasks_and_leaves_out_what_helped() -> None:
    rows = [("a", "x", 1.0), ("a", "y", 2.0), ("b", "x", 5.0), ("b", "y", -4.0), ("c", "x", -1.0), ("c", "y", 0.5)]
    table = pd.DataFrame(rows, columns=["matrix", "task", "value"])
    assert rank(table, ["x", "y"]) == ["a", "b"]
    assert rank(table, ["x"]) == ["b", "a"]
    assert rank(table, []) == []
