"""Skill of predictors: none of a random one, all of the loss itself; and one number an update of a pool."""

import math
from collections.abc import Hashable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from gcwm_viz.decide.benchmark import validation
from gcwm_viz.decide.benchmark.cases import HARM, pool_cases
from gcwm_viz.decide.benchmark.validation import SIGNS, auc, units, validate
from gcwm_viz.signals.predictors import PREDICTORS
from tests.decide.benchmark.made import make_tables

TABLES = make_tables()
CASES = pool_cases(TABLES, "wudi")


@pytest.fixture(autouse=True)
def few_resamples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "RESAMPLES", 100)
        yield


def made(seeds: int = 12, each: int = 15) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    loss = rng.normal(0, 0.1, seeds * each)
    table = pd.DataFrame({"seed": np.repeat(np.arange(seeds), each), "loss": loss, "truth": loss, "reversed": -loss})
    return table.assign(
        half=loss + rng.normal(0, 0.1, len(loss)),
        relative_norm=rng.uniform(size=len(loss)),
        solo=-loss,
        constant=1.0,
    )


def by_predictor(table: pd.DataFrame, columns: list[str]) -> dict[str, dict[Hashable, Any]]:
    return {row["predictor"]: row for row in validate(table, columns).to_dict("records")}


def test_the_loss_itself_foretells_all() -> None:
    table = made()
    found = by_predictor(table, ["truth", "reversed", "half", "constant"])
    for name, value in (("truth", 1.0), ("reversed", 0.0)):
        row = found[name]
        assert [row[name] for name in ("auc", "auc_low", "auc_high")] == pytest.approx([value] * 3)
        assert row["rho"] == pytest.approx(2 * value - 1)
    half, harm = found["half"], table["loss"] > HARM
    assert half["auc"] == pytest.approx(roc_auc_score(harm, table["half"]))
    assert half["rho"] == pytest.approx(spearmanr(table["half"], table["loss"]).statistic)
    assert 0.5 < half["auc_low"] < half["auc"] < half["auc_high"] < 1
    assert half["harmful"] == harm.sum()
    assert math.isnan(found["constant"]["auc"])


def test_the_area_is_that_of_an_oracle_with_ties_and_weights() -> None:
    rng = np.random.default_rng(5)
    x, harm = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.3
    weights = rng.integers(0, 3, (40, 30)).astype(float)
    weights[harm, 0] = 0.0  # a resample without a harmful one has no area
    areas = [roc_auc_score(harm, x, sample_weight=w) for w in weights.T[1:]]
    expected = (roc_auc_score(harm, x), *np.percentile(areas, [2.5, 97.5]))
    assert auc(x, harm, weights) == pytest.approx(expected)


def test_random_numbers_have_no_skill() -> None:
    """Of ten, the intervals of at least eight cover chance; over twelve seeds they are somewhat narrow."""
    rng = np.random.default_rng(3)
    table = made()
    names = [f"random {k}" for k in range(10)]
    found = validate(table.assign(**{name: rng.normal(size=len(table)) for name in names}), names)
    assert ((found["auc_low"] < 0.5) & (found["auc_high"] > 0.5)).sum() >= 8
    assert ((found["rho_low"] < 0) & (found["rho_high"] > 0)).sum() >= 8
    assert found["auc"].mean() == pytest.approx(0.5, abs=0.05)


def test_a_predictor_is_read_as_it_was_declared_beforehand() -> None:
    assert set(SIGNS) <= set(PREDICTORS)
    assert by_predictor(made(), ["solo"])["solo"]["auc"] == pytest.approx(
        1
    )  # a lower score of the expert foretells harm


def test_what_the_norm_explains_is_taken_out() -> None:
    """A predictor that follows the norm alone says nothing given the norm."""
    rng = np.random.default_rng(1)
    norm = rng.uniform(size=600)
    table = pd.DataFrame({"seed": np.arange(600) % 6, "relative_norm": norm, "loss": norm + rng.normal(0, 0.2, 600)})
    table["sar"] = norm + rng.normal(0, 0.2, 600)
    found = by_predictor(table, ["sar", "relative_norm"])
    assert found["sar"]["rho"] > 0.4
    assert abs(found["sar"]["partial"]) < 0.1
    assert math.isnan(found["relative_norm"]["partial"])


def test_intervals_resample_seeds() -> None:
    """Thirty equal updates of a seed are one observation."""
    table = made(seeds=4, each=1)
    many = pd.concat([table] * 30, ignore_index=True)
    few, repeated = by_predictor(table, ["half"])["half"], by_predictor(many, ["half"])["half"]
    assert (repeated["rho_low"], repeated["rho_high"]) == pytest.approx((few["rho_low"], few["rho_high"]), abs=1e-9)


def test_undefined_values_are_left_out_and_counted() -> None:
    table = made()
    table.loc[:49, "half"] = np.nan
    assert by_predictor(table, ["half"])["half"]["n"] == len(table) - 50
    table["half"] = np.nan
    assert by_predictor(table, ["half"])["half"]["n"] == 0
    ones = np.ones((4, 3))
    assert all(math.isnan(value) for value in auc(np.arange(4.0), np.zeros(4, dtype=bool), ones))


def test_one_row_an_update_of_a_pool() -> None:
    table = units(CASES, TABLES)
    assert len(table) == 3 * 9
    assert set(PREDICTORS) <= set(table)
    assert not table[["loss", *PREDICTORS]].isna().any(axis=None)
    bad = table["kind"] == "noise"
    assert table.loc[bad, "loss"].to_numpy() == pytest.approx(0.2)
    assert table.loc[~bad, "loss"].to_numpy() == pytest.approx(-0.3 / 4)
    row = table[(table["seed"] == 1) & (table["pool"] == "noise-1") & (table["update"] == "eval~noise")].iloc[0]
    own = {name: part[part["seed"] == 1] for name, part in TABLES.items()}
    pairs = own["pairs"]
    acts = pairs[(pairs["j"] == "eval~noise") & pairs["i"].isin(["past", "index"])]  # j acts on i
    assert row["sar"] == pytest.approx(acts["sar"].mean())
    effects = own["effects"]
    others = effects[(effects["update"] == "eval~noise") & (effects["task"] != "eval")]
    assert row["attributed"] == pytest.approx(others["attributed"].mean())
    updates = own["updates"].set_index("update")
    assert row["kl"] == pytest.approx(updates["kl"]["eval~noise"])
    assert row["solo"] == pytest.approx(-0.2)
    base = own["solo"].query("update == '' and split == 'dev'").set_index("task")
    assert row["base_loss"] == pytest.approx(base["nll"]["eval"])


def test_pools_without_the_truth_have_no_row() -> None:
    plans = TABLES["plans"]
    lacking = TABLES | {"plans": plans[plans["plan"] != "index:1,past:1"]}
    table = units(pool_cases(lacking, "wudi"), lacking)
    rows = table[(table["pool"] == "noise-1")]
    assert set(rows["update"]) == {"past", "index"}
