"""Evidence on candidates, read off generated tables."""

import math

import pandas as pd
import pytest

from gcwm_viz.decide.evidence import Candidate, candidates, left_out_effects
from gcwm_viz.statistics.interval import Interval
from tests.factories_runs import NASTY, TASKS, make_tables

TABLES = make_tables("normal")


def by_name(tables: dict[str, pd.DataFrame] = TABLES, **where: str) -> dict[str, Candidate]:
    return {candidate.update: candidate for candidate in candidates(tables, **where)}


def half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def test_one_candidate_an_update_in_order() -> None:
    assert list(by_name()) == list(TASKS)
    assert [candidate.step for candidate in by_name().values()] == [1, 2, 3, 4, 5, 6]


def scored(R: list[list[float]], experts: dict[str, float]) -> pd.DataFrame:
    """A scores table of development em from R (rows base, step 1, …) and each expert's score on its own task."""
    names = list(experts)
    rows = [("base" if step == 0 else "step", step, "" if step == 0 else names[step - 1], task, value)
            for step, values in enumerate(R) for task, value in zip(names, values, strict=True)]  # fmt: skip
    rows += [("expert", place, task, task, experts[task]) for place, task in enumerate(names, start=1)]
    table = pd.DataFrame(rows, columns=["model", "step", "update", "task", "value"])
    return table.assign(split="dev", metric="em", se=0.01, n=200)


def test_an_update_answers_for_its_own_step() -> None:
    """The story of a model trained on one task after another: ``past`` is learned and destroyed by ``capital``."""
    R = [[0.2, 0.0, 0.5], [0.933, 0.0, 0.5], [0.258, 1.0, 0.5], [0.1, 0.9, 0.95]]
    scores = scored(R, {"past": 0.933, "capital": 1.0, "index": 0.97})
    matrices = TABLES["matrices"].assign(update=TABLES["matrices"]["update"].replace("symbol", "other"), mode="trained")
    tables = TABLES | {"scores": scores, "matrices": matrices, "leave_one_out": TABLES["leave_one_out"].iloc[:0]}
    found = by_name(tables)
    assert found["past"].gain.value == pytest.approx(0.733)
    assert half_width(found["past"].gain) == pytest.approx(1.96 * 0.01 * 2**0.5, rel=1e-4)
    assert found["past"].drop.reason == "no task came before it"
    assert found["capital"].gain.value == pytest.approx(1.0)
    assert found["capital"].drop.value == pytest.approx(0.675)
    assert found["index"].drop.value == pytest.approx((0.158 + 0.1) / 2)
    assert half_width(found["index"].drop) == pytest.approx(1.96 * 0.01 * 2**0.5 / 2**0.5, rel=1e-4)
    assert found["index"].alone.value == pytest.approx(0.47)
    assert "sequential fine-tuning" in found["past"].others.reason


def test_gains_of_losses_are_turned() -> None:
    found = by_name(metric="nll")["index"]
    assert found.gain.value > 0
    assert found.alone.value > 0
    assert by_name(make_tables("nan"))[NASTY].gain.reason == "the score is not defined"


def test_left_out_effects_are_turned_and_averaged() -> None:
    effects = left_out_effects(TABLES["leave_one_out"], "past", "dev", "em")
    assert effects[effects["own"]]["task"].tolist() == ["past"]
    found = by_name()["past"]
    others = effects[~effects["own"]]
    assert found.others.value == pytest.approx(others["change"].mean())
    assert half_width(found.others) == pytest.approx(1.96 * 0.015 / 5**0.5, rel=1e-4)
    assert found.overall.value == pytest.approx(effects["change"].mean())
    turned = left_out_effects(TABLES["leave_one_out"], "past", "dev", "nll")
    assert turned["change"].to_numpy() == pytest.approx(effects["change"].to_numpy())


def test_what_was_not_measured_says_so() -> None:
    tables = TABLES | {name: TABLES[name].iloc[:0] for name in ("leave_one_out", "scores")}
    found = by_name(tables)["index"]
    assert found.others.reason == "not measured; run leave-one-out"
    assert "no probes" in found.gain.reason
    alone = by_name(make_tables("one"))["past"]
    assert alone.drop.reason == "no task came before it"
    assert alone.others.reason == "not measured; run leave-one-out"


def test_holes_stay_holes() -> None:
    found = by_name(make_tables("nan"))
    assert math.isnan(found["past"].others.value)  # one task of it is NaN: a mean over unknown scores is unknown
    assert found["past"].others.reason == "the score is not defined"
    assert found[NASTY].others.reason == "not measured; run leave-one-out"
    assert found[NASTY].alone.known
    assert candidates(make_tables("empty")) == []
