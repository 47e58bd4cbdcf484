"""Plans and verdicts in words."""

import math
from dataclasses import replace

import pytest

from gcwm_viz.decide.outlook import outlook
from gcwm_viz.decide.search import Measured
from gcwm_viz.decide.sentences import (
    basis,
    fixed,
    gain_words,
    harm_words,
    label,
    next_words,
    outside_words,
    plan_name,
    plan_words,
)
from gcwm_viz.decide.verdict import Verdict
from tests.factories_decide import make_forecast, make_knowledge
from tests.factories_forecast import SUM

THIRD = 1 / 3
NOW = outlook(make_knowledge(), make_forecast("labels", **{SUM: 1.0}), 0.5, [])


@pytest.mark.parametrize(
    ("strengths", "name"),
    [
        ({}, "nothing, which is the base"),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}, "everything"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, "everything but d"),
        ({"a": 1.0, "b": 1.0, "c": 1.0, "d": THIRD}, "everything, but ⅓ of d"),
        ({"a": 1.0, "b": 1.0, "d": THIRD}, "a, b and ⅓ of d"),
        ({"a": 1.0, "b": 1.0}, "a and b"),
        ({"c": 1.0}, "c"),
        ({"c": 0.7}, "0.7 of c"),
        ({"a": THIRD, "b": THIRD, "c": THIRD, "d": THIRD}, "⅓ of everything"),
        ({"a": 1.0, "b": THIRD, "c": 0.5, "d": THIRD}, "a, ⅓ of b, 0.5 of c and ⅓ of d"),
    ],
)
def test_names_of_plans(strengths: dict[str, float], name: str) -> None:
    assert plan_name("abcd", strengths) == name


def test_names_of_plans_of_many_and_of_one_update() -> None:
    most = dict.fromkeys("abcdef", 1.0)
    assert plan_name("abcdefgh", most) == "everything but g and h"
    assert plan_name("abcdefgh", most | {"g": THIRD}) == "everything but h, with ⅓ of g"
    assert plan_name("a", {"a": 1.0}) == "a"
    assert plan_name("a", {"a": THIRD}) == "⅓ of a"


def test_numbers() -> None:
    assert fixed(-1e-9, signed=True) == "+0.000"
    assert fixed(math.nan) == "n/a"
    sure = Verdict("integrate", 1.0, 0.0123, -0.001, 0.0256, 0.001, (0, 0, 0))
    assert gain_words(sure) == "+0.01 [+0.00, +0.03]"
    assert gain_words(sure, 3) == "+0.012 [-0.001, +0.026]"
    assert [harm_words(replace(sure, harm=harm)) for harm in (0.001, 0.414, 0.999)] == [
        "under 1 %",
        "41 %",
        "over 99 %",
    ]


def test_labels_of_verdicts() -> None:
    verdict = Verdict("less", 0.5 / 3, 0.1, 0.0, 0.2, 0.5, (0, 0, 0))
    for given, said in (
        (verdict, "◐ integrate ⅓ of it"),
        (replace(verdict, choice="integrate", strength=0.5), "✓ integrate"),
        (replace(verdict, choice="hold", strength=0.0), "✕ hold"),
        (replace(verdict, choice="redundant", strength=0.0, other=2), "= redundant with u2"),
    ):
        assert label(replace(NOW, verdicts=[given]), 0) == said


def test_the_recommended_plan_stands_beside_everything() -> None:
    everything = Measured((0.5, 0.5, 0.5), 0.1, 0.02)
    now = replace(NOW, plan=(0.5, 0.0, 0.5), measured=[everything])
    base = now.base
    said = plan_words(now)
    mean, sd = now.expected(now.plan)
    assert said.startswith(
        f"Recommended: everything but u1 (expected {base + mean:.3f} ± {1.96 * sd:.3f}, not measured)."
    )
    assert f"For comparison, everything (expected {base + now.expected(now.everything)[0]:.3f}" in said
    assert f"measured {base + 0.1:.3f} ± 0.039)" in said
    assert "For comparison" not in plan_words(replace(now, plan=now.everything))
    assert "Recommended: hold everything" in plan_words(replace(now, plan=(0.0, 0.0, 0.0)))
    assert basis(now) == (
        "Forecast for wudi on 3 tasks from the updates, and probes of base and experts, corrected by 1 measured plan."
    )
    from_prompts = replace(now, forecast=replace(now.forecast, needs="prompts"))
    assert basis(from_prompts).endswith(
        "from the updates and prompts of every task, corrected by 1 measured plan. The one that uses answers was "
        "fitted on no case like this run."
    )


def test_outside_its_range_a_plan_has_no_expectation() -> None:
    now = replace(NOW, outside=["gain × others", "crowd"], measured=[Measured((0.5, 0.0, 0.5), 0.1, 0.02)])
    assert plan_words(now).startswith("Best measured plan: everything but u1 (measured ")
    assert "expected" not in plan_words(now)
    assert "in “gain × others” and “crowd”" in outside_words(now)
    assert "improvement" not in next_words(now, (0, 0.1))


def test_what_is_worth_measuring() -> None:
    place = NOW.belief.index((0.5, 0.0, 0.0))
    assert place is not None
    assert next_words(NOW, (place, 0.0123)) == (
        "Worth measuring next: u0. Expected improvement over the best that was measured: 0.012."
    )
    assert "No further plan is worth measuring" in next_words(NOW, None)
