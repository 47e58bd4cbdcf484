"""The shipped forecasts on the shipped pools of seeds that nothing was fitted on."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.decide.benchmark.cases import LAB, PoolCase, pool_cases
from gcwm_viz.decide.benchmark.lab import FITTED, REPORTED
from gcwm_viz.decide.benchmark.study import TABLES
from gcwm_viz.decide.forecast import SHIPPED, Forecast, believe, read
from gcwm_viz.decide.search import distinct
from gcwm_viz.decide.verdict import judge, looked_at


@pytest.fixture(scope="module")
def cases() -> list[PoolCase]:
    folder = SHIPPED.parent / LAB / "tables"
    return pool_cases({name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}, "wudi", REPORTED)


@pytest.fixture(scope="module")
def forecast() -> Forecast:
    return next(each for each in read() if (each.method, each.needs) == ("wudi", "labels"))


def choice(case: PoolCase, forecast: Forecast, update: int) -> str:
    plans = distinct(np.concatenate([case.plans_pt, looked_at(case.everything())]))
    return judge(believe(forecast, case.known, plans), case.everything(), update).choice


def test_an_update_trained_on_shuffled_answers_is_held_in_most_pools(cases: list[PoolCase], forecast: Forecast) -> None:
    assert not {case.seed for case in cases} & set(FITTED)
    choices = [choice(case, forecast, k) for case in cases for k, kind in enumerate(case.kinds) if kind == "shuffled"]
    assert len(choices) >= 3 * len(REPORTED)
    assert choices.count("hold") > len(choices) / 2


def test_a_good_update_is_seldom_held(cases: list[PoolCase], forecast: Forecast) -> None:
    choices = [choice(case, forecast, k) for case in cases for k, kind in enumerate(case.kinds) if kind == "good"]
    assert choices.count("hold") < 0.1 * len(choices)
