"""Greedy orders, what was measured, and whether conflict tells who costs the others."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.decide.agreement import agreement
from gcwm_viz.decide.evidence import Candidate, candidates
from gcwm_viz.decide.order import additions, greedy_order, measured, order_matters, outcomes
from gcwm_viz.errors import InputError
from gcwm_viz.statistics.interval import Interval
from tests.factories_runs import TASKS, make_tables


def square(names: str, **values: float) -> pd.DataFrame:
    table = pd.DataFrame(np.nan, index=list(names), columns=list(names))
    for pair, value in values.items():
        table.loc[pair[0], pair[1]] = table.loc[pair[1], pair[0]] = value
    return table


SQUARE = square("abcd", ab=0.9, ac=0.2, ad=0.5, bc=0.3, bd=0.1, cd=0.4)


def test_greedy_starts_with_the_least_conflicted_and_adds_the_least() -> None:
    # Means: a .533, b .433, c .3, d .333. With c: a .2, b .3, d .4; with c and a: b .6, d .45.
    found = greedy_order(SQUARE)
    assert [addition.update for addition in found] == list("cadb")
    assert [addition.added_conflict for addition in found][1:] == pytest.approx([0.2, 0.45, (0.3 + 0.9 + 0.1) / 3])
    assert [addition.subset_conflict for addition in found][1:] == pytest.approx([0.2, 1.1 / 3, 2.4 / 6])
    assert math.isnan(found[0].subset_conflict)
    assert found[0].reason == "the first"


def test_undefined_conflicts_come_last_and_say_so() -> None:
    table = square("abc", bc=0.4)
    found = greedy_order(table)
    assert [addition.update for addition in found] == list("bca")
    assert math.isnan(found[2].added_conflict)
    assert "no defined conflict" in found[2].reason
    assert found[2].subset_conflict == pytest.approx(0.4)
    assert greedy_order(square("")) == []
    assert [addition.update for addition in greedy_order(square("ab"))] == ["a", "b"]


def test_a_given_order_ends_where_every_order_ends() -> None:
    assert additions(SQUARE, "abcd")[-1].subset_conflict == pytest.approx(additions(SQUARE, "dcba")[-1].subset_conflict)
    for wrong in ("ax", "aa"):
        with pytest.raises(InputError, match="at most once"):
            additions(SQUARE, list(wrong))


@pytest.mark.parametrize(
    ("overrides", "method", "says"),
    [
        ({}, "gcwm", ""),
        ({"eta": 0.3}, "ties", ""),
        ({"memory": 2}, "gcwm", "last 2"),
        ({"decay": 0.9}, "gcwm", "η changes"),
        ({"policy": "current_anchor"}, "gcwm", "current_anchor"),
        ({"new_weight": 2.0}, "gcwm", "another weight"),
        ({}, "opcm", "one update at a time"),
    ],
)
def test_when_the_order_matters(overrides: Any, method: str, says: str) -> None:
    found = order_matters(RunSettings.preset_with("scale-free", overrides, method))
    assert (says in found) if says else found == ""


def test_training_is_always_in_order() -> None:
    assert "training" in order_matters(RunSettings.preset_with("scale-free", {}), trained=True)


def test_measured_sets_are_found_whatever_their_order() -> None:
    tables = make_tables("normal")
    found = outcomes(tables, TASKS)
    assert len(found) == 1 + 6 + 6
    assert measured(found, ["capital", "past"], ordered=True) is None
    pair = measured(found, ["capital", "past"], ordered=False)
    assert pair is not None
    assert pair.source == "step 2"
    rows = tables["scores"].query("model == 'step' and step == 2 and split == 'dev' and metric == 'em'")
    assert pair.value == pytest.approx(rows["value"].mean())
    assert pair.se == pytest.approx(0.02 / 6**0.5)
    without = measured(found, [name for name in TASKS if name != "index"], ordered=True)
    assert without is not None
    assert without.source == "leave-one-out"
    base = measured(found, [], ordered=False)
    assert base is not None
    assert base.source == "base"
    assert measured(found, ["index"], ordered=False) is None
    empty = make_tables("empty")
    assert outcomes(empty, TASKS) == []


def test_unmeasured_scores_are_no_outcome() -> None:
    tables = make_tables("nan")
    updates = list(tables["updates"]["update"])
    assert measured(outcomes(tables, updates), updates[:2], ordered=True) is None


def test_agreement_is_held_to_account() -> None:
    known = candidates(make_tables("normal"), RunSettings.preset_with("scale-free", {}))

    def with_values(conflicts: Sequence[float], harms: Sequence[float]) -> list[Candidate]:
        return [
            replace(entry, pairwise=Interval(c), others=Interval(h))
            for entry, c, h in zip(known, conflicts, harms, strict=True)
        ]

    right = agreement(with_values([1, 2, 3, 4, 5, 6], [10, 20, 30, 40, 50, 60]))
    assert right.rho == pytest.approx(1)
    assert right.p == pytest.approx(2 / 720, abs=2e-3)
    assert agreement(with_values([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1])).rho == pytest.approx(-1)
    few = agreement(with_values([1, 2, 3, math.nan, 5, 6], [1, math.nan, 3, 4, math.nan, 6]))
    assert (few.n, few.reason) == (3, "needs 4 measured updates")
    assert "equal" in agreement(with_values([1] * 6, [1, 2, 3, 4, 5, 6])).reason
