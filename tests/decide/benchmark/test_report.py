"""What is reported: never on a seed that fitted, and every table for every setting."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from gcwm_viz.decide.benchmark import report as module
from gcwm_viz.decide.benchmark import validation
from gcwm_viz.decide.benchmark.cases import PoolCase, pool_cases
from gcwm_viz.decide.benchmark.lab import FITTED, REPORTED
from gcwm_viz.decide.benchmark.report import (
    MEASURED,
    NEW_REGIMES,
    NEW_SEEDS,
    OTHER_MODEL,
    OTHER_MODEL_REGIMES,
    check_apart,
    results,
    settings,
    write_csv,
)
from gcwm_viz.decide.benchmark.shipped import COLUMNS, read_results
from gcwm_viz.decide.benchmark.summary import sections
from gcwm_viz.decide.features import NEEDS
from gcwm_viz.decide.forecast import Forecast, read, write
from gcwm_viz.errors import InputError
from gcwm_viz.signals.predictors import PREDICTORS
from tests.decide.benchmark.made import make_tables

LAB = make_tables(seeds=(*FITTED, *REPORTED), noise=0.01)
FIT, REPORT = (pool_cases(LAB, "wudi", seeds) for seeds in (FITTED, REPORTED))


@pytest.fixture(scope="module", autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "RESAMPLES", 50)
        yield


@dataclass(frozen=True)
class Made:
    """What :func:`results` gives of the made lab, and of another model that was scored on test alone."""

    tables: dict[str, pd.DataFrame]
    forecasts: list[Forecast]
    source: dict[str, Any]

    def of(self, name: str, setting: str, index: str) -> pd.DataFrame:
        table = self.tables[name]
        return table[table["setting"] == setting].set_index(index)


def other_model() -> dict[str, pd.DataFrame]:
    """Another model, scored on test alone."""
    other = make_tables(seeds=(0,))
    other["plans"] = other["plans"].query("split == 'test'")
    return other


@pytest.fixture(scope="module")
def made() -> Made:
    other = other_model()
    return Made(*results(LAB, other, ["wudi", "gcwm"]))  # of gcwm nothing was scored


def test_a_seed_that_fits_and_reports_is_refused() -> None:
    check_apart(FIT, REPORT)
    with pytest.raises(InputError, match="seed 4 would both fit and report"):
        check_apart(FIT, [*REPORT, FIT[-1]])
    with pytest.raises(InputError, match="seed 5 would both fit and report"):
        settings("wudi", [*FIT, REPORT[0]], REPORT, LAB)


def test_a_bad_update_of_another_model_is_on_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its good pool fits; noise reports, and so does the mixture, unless the noise in it fits."""
    seen: list[set[str]] = []

    def remember(given: list[Any], method: str, needs: str) -> str:
        seen.append({case.model for case in given})
        return method

    monkeypatch.setattr(module, "fit", remember)
    parts, _ = settings("wudi", FIT, REPORT, LAB, other_model())
    by_name = {part.name: part for part in parts}
    assert list(by_name) == [NEW_SEEDS, NEW_REGIMES, OTHER_MODEL, OTHER_MODEL_REGIMES]
    assert {case.pool for case in by_name[OTHER_MODEL].cases} == {"good-1", "noise-1", "mixed-1"}
    assert {case.pool for case in by_name[OTHER_MODEL_REGIMES].cases} == {"noise-1", "mixed-1"}
    assert seen == [{"lab", "smollm2"}] * 3  # what ships
    seen.clear()
    by_name[OTHER_MODEL].forecast("labels", by_name[OTHER_MODEL].cases[0])
    assert seen == [{"lab"}]
    monkeypatch.setattr(module, "FITTED_REGIMES", ("good", "noise"))
    names = [part.name for part in settings("wudi", FIT, REPORT, LAB, other_model())[0]]
    assert OTHER_MODEL_REGIMES not in names  # the noise of the mixture fitted
    other = [replace(case, model="smollm2") for case in pool_cases(LAB, "wudi", [0]) if case.regime == "noise"]
    with pytest.raises(InputError, match="eval~noise would both fit and report"):
        check_apart(other, other)


def test_a_new_regime_was_never_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[PoolCase]] = []
    cases = {id(case.known): case for case in FIT}

    def remember(given: list[object], method: str, needs: str) -> str:
        seen.append([cases[id(case.known)] for case in given])  # type: ignore[attr-defined]
        return method

    monkeypatch.setattr(module, "fit", remember)
    parts, _ = settings("wudi", FIT, REPORT, LAB)
    assert [part.name for part in parts] == [NEW_SEEDS, NEW_REGIMES]
    assert all(fitted == FIT for fitted in seen)
    for case in REPORT[:3]:
        seen.clear()
        parts[1].forecast("labels", case)
        assert len(seen) == 1
        assert all(each.regime != case.regime for each in seen[0])
        # Nor in a mixed pool; good updates are in every pool.
        if case.regime == "noise":
            assert {each.regime for each in seen[0]} == {"good"}
        parts[1].forecast("labels", case)
        assert len(seen) == 1  # fitted once


def test_every_table_for_every_setting(made: Made) -> None:
    assert set(made.tables) == set(COLUMNS)
    for name, columns in COLUMNS.items():
        assert set(made.tables[name]) == {*columns, "method", "setting"}
        assert set(made.tables[name]["setting"]) == {NEW_SEEDS, NEW_REGIMES, OTHER_MODEL, OTHER_MODEL_REGIMES}
    forecasts = [f"forecast, {needs}" for needs in NEEDS]
    assert list(made.of("validation", NEW_SEEDS, "predictor").index) == [*PREDICTORS, *forecasts]
    assert list(made.of("validation", NEW_REGIMES, "predictor").index) == forecasts
    updates = 9 * len(REPORTED)
    for needs in NEEDS:
        own = {name: made.of(name, NEW_SEEDS, "needs").loc[[needs]] for name in ("reliability", "coverage", "verdicts")}
        assert all(table["n"].sum() == updates for table in own.values())
        assert own["reliability"]["observed"].between(0, 1).all()
        assert own["reliability"]["forecast"].is_monotonic_increasing
        assert own["verdicts"]["right"].between(0, 1).all()


def test_regrets_stand_beside_that_of_everything(made: Made) -> None:
    for setting in (NEW_SEEDS, NEW_REGIMES):
        regret = made.of("regret", setting, "policy")
        assert regret.index.is_unique
        assert regret["share"]["integrate all"] == 1
        assert {f"forecast, labels, {count} measured" for count in MEASURED} <= set(regret.index)
    # Where dev was not scored, nothing is measured before a choice.
    assert not made.of("regret", OTHER_MODEL, "policy").index.str.contains("measured|on dev").any()


def test_a_planted_truth_is_foretold(made: Made) -> None:
    """Scores add up: with the scores of every update alone, the bad one is known, and held."""
    valid = made.of("validation", NEW_SEEDS, "predictor")
    assert valid["auc"]["forecast, labels"] == pytest.approx(1)
    assert valid["auc"]["solo"] == pytest.approx(1)
    regret = made.of("regret", NEW_SEEDS, "policy")["regret"]
    assert regret["forecast, labels"] < 0.1 * regret["integrate all"]
    verdicts = made.of("verdicts", NEW_SEEDS, "needs").loc["labels"].set_index("choice")
    bad = sum(case.kinds.count("noise") for case in REPORT)
    assert verdicts["n"].to_dict() == {"integrate": 9 * len(REPORTED) - bad, "hold": bad}
    assert (verdicts["right"] == 1).all()
    assert made.of("coverage", NEW_SEEDS, "needs")["error"]["labels"] < 0.02


def test_what_ships_is_written_and_read_back(made: Made, tmp_path: Path) -> None:
    assert {(each.method, each.needs) for each in made.forecasts} == {("wudi", needs) for needs in NEEDS}
    assert made.source["methods"].keys() == {"wudi"}
    assert made.source["methods"]["wudi"]["fitted on seeds"] == list(FITTED)
    assert made.source["methods"]["wudi"]["reported on seeds"] == list(REPORTED)
    write_csv(made.tables, tmp_path)
    write(made.forecasts, made.source, tmp_path / "forecast.json")
    assert read(tmp_path / "forecast.json") == made.forecasts
    back = read_results(tmp_path)
    for name, table in made.tables.items():
        numbers = list(table.select_dtypes("number"))
        pd.testing.assert_frame_equal(back[name][numbers], table[numbers], check_dtype=False, rtol=0, atol=1e-4)
    texts = sections(back)
    assert set(texts) == {"predictors", "forecasts", "regrets", "verdict-counts", "settled"}
    for setting in (NEW_SEEDS, NEW_REGIMES, OTHER_MODEL):
        assert f"wudi, {setting}" in texts["regrets"]


def test_too_few_seeds_give_no_forecast() -> None:
    few = {name: table[table["seed"].isin([0, 1, *REPORTED])] for name, table in LAB.items()}
    assert results(few, None, ["wudi"]) == ({}, [], {})
