"""Evidence on candidates, read off generated tables."""

import math
from typing import Any

import pandas as pd
import pytest

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.decide.evidence import Candidate, by_place, candidates, latest_pairs, left_out_effects, pair_square
from gcwm_viz.decide.verdict import judge
from gcwm_viz.geometry.gate import gate
from gcwm_viz.statistics.interval import Interval
from tests.factories_runs import NASTY, TASKS, make_tables

TABLES = make_tables("normal")
SETTINGS = RunSettings.preset_with("scale-free", {})


def by_name(
    tables: dict[str, pd.DataFrame] = TABLES, settings: RunSettings = SETTINGS, **where: str
) -> dict[str, Candidate]:
    return {candidate.update: candidate for candidate in candidates(tables, settings, **where)}


def half_width(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def test_one_candidate_an_update_in_order() -> None:
    assert list(by_name()) == list(TASKS)
    index = by_name()["index"]
    assert index.step == 3
    assert index.incoming.low < index.incoming.value < index.incoming.high


def test_incoming_conflict_is_that_of_its_own_step() -> None:
    found = by_name()
    rows = TABLES["matrices"]
    assert found["symbol"].incoming.value == pytest.approx(rows[rows["step"] == 4]["incoming_conflict"].mean())
    assert math.isnan(found["past"].incoming.value)
    assert found["past"].incoming.reason == "no state before the first step"


def test_pairs_count_once_where_they_were_last_active() -> None:
    pairs = TABLES["pairs"]
    latest = latest_pairs(pairs)
    assert len(latest) == 28 * 15
    assert (latest["step"] == 6).all()
    square: Any = pair_square(latest, list(TASKS))
    one = latest[(latest["i"] == "past") & (latest["j"] == "eval")]
    assert square.loc["eval", "past"] == square.loc["past", "eval"] == pytest.approx(one["conflict"].mean())
    assert by_name()["past"].pairwise.value == pytest.approx(square.loc["past"].mean())
    # A finite memory: the first two meet at step 2 only.
    short = pairs[(pairs["step"] == 2) | ((pairs["step"] > 2) & (pairs["i"] != "past"))]
    kept = latest_pairs(short)
    assert set(kept[(kept["i"] == "past")]["step"]) == {2}
    unknown: Any = pair_square(kept, list(TASKS)).loc["past", "eval"]
    assert math.isnan(unknown)


def test_expected_alpha_is_the_gate_at_the_mean_conflict() -> None:
    latest = latest_pairs(TABLES["pairs"])
    places = by_place(TABLES["matrices"], latest, SETTINGS, "close")
    name = places["matrix"].iloc[5]
    mine = latest[(latest["matrix"] == name) & ((latest["i"] == "close") | (latest["j"] == "close"))]
    assert len(mine) == 5
    assert places["pair_conflict"].iloc[5] == pytest.approx(mine["conflict"].mean())
    assert places["pair_alpha"].iloc[5] == pytest.approx(gate(mine["gate_conflict"].mean(), SETTINGS.gcwm))
    plain = by_name(settings=RunSettings.preset_with("scale-free", {}, "mean"))["close"].alpha
    assert math.isnan(plain.value)
    assert "mean has no gate" in plain.reason


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
    verdicts = {name: judge(candidate) for name, candidate in found.items()}
    assert verdicts["past"].choice != "leave out"
    assert (verdicts["capital"].choice, verdicts["capital"].certainty) == ("leave out", "clear")
    assert "earlier tasks lose too much at its step" in verdicts["capital"].words
    assert not verdicts["capital"].left_out
    assert "leave-one-out was not measured" in verdicts["capital"].words


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
    assert alone.pairwise.reason == "never active together with another update"
    assert alone.others.reason == "not measured; run leave-one-out"


def test_holes_stay_holes() -> None:
    found = by_name(make_tables("nan"))
    assert math.isnan(found["past"].others.value)  # one task of it is NaN: a mean over unknown scores is unknown
    assert found["past"].others.reason == "the score is not defined"
    assert found[NASTY].others.reason == "not measured; run leave-one-out"
    assert found[NASTY].pairwise.known
    assert candidates(make_tables("empty"), SETTINGS) == []
