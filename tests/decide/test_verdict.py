"""Integrate, integrate gated or leave out, and how sure."""

from dataclasses import replace
from typing import Any

import pytest

from gcwm_viz.decide.evidence import Candidate
from gcwm_viz.decide.verdict import Thresholds, judge
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.statistics.interval import Interval, missing

UNKNOWN = missing("not measured; run leave-one-out")


def near(value: float, half: float = 0.01) -> Interval:
    return Interval(value, value - half, value + half)


GOOD = Candidate(
    update="a",
    step=2,
    incoming=near(0.05),
    pairwise=near(0.05),
    alpha=near(0.3),
    gain=near(0.4),
    alone=near(0.5),
    drop=near(0.0),
    others=near(0.0),
    overall=near(-0.1),
)


ALONE = {"others": UNKNOWN, "overall": UNKNOWN}
"""Without leave-one-out."""
UNSEEN = ALONE | {"drop": UNKNOWN}


@pytest.mark.parametrize(
    ("change", "choice", "certainty"),
    [
        ({}, "integrate", "clear"),
        ({"incoming": near(0.3)}, "integrate gated", "clear"),
        ({"incoming": near(0.125)}, "integrate gated", "inconclusive"),
        ({"incoming": near(0.9)}, "integrate gated", "clear"),  # measured harmless: conflict alone does not hold it
        ({"overall": near(0.05)}, "leave out", "clear"),
        ({"overall": near(0.005)}, "leave out", "inconclusive"),
        ({"overall": near(-0.005)}, "integrate", "inconclusive"),
        ({"others": near(0.2)}, "leave out", "clear"),
        ({"gain": near(0.0)}, "leave out", "clear"),
        ({"gain": near(0.045)}, "leave out", "inconclusive"),
        ({"gain": near(0.045), "others": near(0.2)}, "leave out", "clear"),  # one clear reason is enough
        ({"gain": Interval(0.4)}, "integrate", "inconclusive"),  # no interval, so nothing is told apart
        (ALONE, "integrate", "predicted"),
        (UNSEEN | {"incoming": near(0.9)}, "leave out", "predicted"),
        (UNSEEN | {"incoming": near(0.555)}, "integrate gated", "inconclusive"),
        (ALONE | {"incoming": near(0.9)}, "integrate gated", "predicted"),  # harmless at its step
        (ALONE | {"drop": near(0.6)}, "leave out", "clear"),
        (ALONE | {"drop": near(0.105)}, "leave out", "inconclusive"),
        ({"drop": near(0.6)}, "integrate", "clear"),  # leave-one-out, where measured, goes before its step
        ({"gain": UNKNOWN, "alone": near(0.0)}, "leave out", "clear"),
        (ALONE | {"gain": near(0.0)}, "leave out", "clear"),
        ({"incoming": UNKNOWN, "pairwise": near(0.3)}, "integrate gated", "clear"),  # the first update met no state
        (dict.fromkeys(("incoming", "pairwise", "others", "overall"), UNKNOWN), "integrate", "predicted"),
        (dict.fromkeys(vars(GOOD).keys() - {"update", "step"}, UNKNOWN), "leave out", "inconclusive"),
    ],
)
def test_rule(change: Any, choice: str, certainty: str) -> None:
    verdict = judge(replace(GOOD, **change))
    assert (verdict.choice, verdict.certainty) == (choice, certainty)
    assert verdict.words.startswith(choice.capitalize())
    assert ("inconclusive" in verdict.words) == (certainty == "inconclusive")
    assert ("prediction" in verdict.words) == (certainty == "predicted")


def test_words_hold_value_interval_and_threshold() -> None:
    findings = {finding.name: finding for finding in judge(replace(GOOD, others=near(0.095))).findings}
    said = findings["harm"].words
    assert "+0.095 (95 % interval +0.085 to +0.105), not distinguishable from the threshold +0.1" in said
    assert findings["gate"].words.endswith("below the threshold 0.12 of the gate.")
    assert not findings["hold"].decides
    unknown = judge(replace(GOOD, others=UNKNOWN, overall=UNKNOWN)).findings[0]
    assert "run leave-one-out" in unknown.words


def test_a_small_gain_without_it_is_not_called_a_gain_with_it() -> None:
    """All tasks are better without it, by less than the threshold."""
    thresholds = Thresholds(better_without=0.05)
    said = judge(replace(GOOD, overall=near(0.03)), thresholds).words
    assert "do not do better without it by more than the threshold" in said
    assert "all tasks together do better with it" in judge(GOOD, thresholds).words


def test_thresholds_move_the_verdict() -> None:
    assert judge(GOOD, Thresholds(gate_conflict=0.01)).choice == "integrate gated"
    assert judge(GOOD, Thresholds(min_gain=0.5)).choice == "leave out"
    assert judge(replace(GOOD, overall=near(0.05)), Thresholds(better_without=0.1)).choice == "integrate"
    own = Thresholds.of(GCWMConfig(tau=0.5))
    assert (own.gate_conflict, own.hold_conflict) == (0.5, 0.75)


@pytest.mark.parametrize("values", [{"max_harm": -0.1}, {"min_gain": float("nan")}, {"hold_conflict": 0.1}])
def test_impossible_thresholds_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(values))):
        Thresholds(**values)
