"""Tables of an outlook for figures and the command line."""

import math

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.decide.outlook import outlook
from gcwm_viz.decide.rows import by_urgency, level_rows, measured_rows, order_rows, signal_rows
from gcwm_viz.decide.search import Measured
from gcwm_viz.figures.forecast_measured import KINDS
from tests.factories_decide import make_forecast, make_knowledge
from tests.factories_forecast import SUM

FORECAST = make_forecast("labels", **{SUM: 1.0})
ETA = 0.5
MEASURED = [
    Measured((ETA, ETA, ETA), 0.2, 0.02),
    Measured((ETA, 0.0, 0.0), 0.05, 0.02),
    Measured((0.0, 0.0, 1.0), 0.06, 0.02),
    Measured((ETA, ETA, 0.0), 0.1, 0.02),
    Measured((ETA, 0.0, ETA), 0.15, 0.02),
    Measured((0.7 * ETA, 0.7 * ETA, 0.7 * ETA), 0.17, 0.02),
]
NOW = outlook(make_knowledge(), FORECAST, ETA, MEASURED)


def test_levels_are_scores_and_changes_where_the_base_is_unknown() -> None:
    rows = level_rows(NOW)
    assert list(rows["update"]) == [NOW.knowledge.updates[k] for k in by_urgency(NOW)]
    for row, k in zip(rows.itertuples(), by_urgency(NOW), strict=True):
        assert (row.whole, row.less, row.without) == pytest.approx([NOW.base + x for x in NOW.verdicts[k].expected])
    bare = outlook(make_knowledge(labels=False), make_forecast("prompts", own=0.2), ETA, [])
    assert math.isnan(bare.base)
    assert level_rows(bare)["whole"].to_list() == pytest.approx([v.expected[0] for v in bare.verdicts[:3]])


def test_measured_plans_stand_beside_their_forecast_without_any_measurement() -> None:
    rows = measured_rows(NOW)
    assert rows["measured"].to_list() == [m.value for m in MEASURED]
    plans = np.array([m.plan for m in MEASURED])
    assert rows["forecast"].to_list() == pytest.approx(FORECAST.mean_change(NOW.knowledge, plans).tolist())
    assert ((rows["low"] < rows["forecast"]) & (rows["forecast"] < rows["high"])).all()
    assert list(rows["kind"]) == ["everything", "experts", "experts", "steps", "everything but one", "others"]
    assert set(rows["kind"]) <= set(KINDS)
    assert list(rows["plan"]) == ["everything", "u0", "2 of u2", "everything but u2", "everything but u1",
                                  "0.7 of everything"]  # fmt: skip
    assert measured_rows(outlook(make_knowledge(), FORECAST, 1.0, [])).empty


def test_orders_end_at_their_plans_and_the_first_begins_with_the_best() -> None:
    rows = order_rows(NOW)
    best, as_run = rows["largest expectation first"], rows["as in this run"]
    assert list(as_run["update"]) == list(NOW.knowledge.updates)
    for path, plan in ((best, NOW.plan), (as_run, NOW.everything)):
        mean, sd = NOW.expected(plan)
        last = path.iloc[-1]
        assert last["expected"] == pytest.approx(NOW.base + mean)
        assert (last["high"] - last["low"]) / 2 == pytest.approx(1.96 * sd, rel=1e-3)
    assert as_run["value"].to_list() == pytest.approx([NOW.base + value for value in (0.05, 0.1, 0.2)])
    alone = [NOW.expected(tuple(s if i == k else 0.0 for i, s in enumerate(NOW.plan)))[0]
             for k, s in enumerate(NOW.plan) if s]  # fmt: skip
    assert best["expected"].iloc[0] == pytest.approx(NOW.base + max(alone))


def test_nothing_worth_taking_has_no_order() -> None:
    worse = make_forecast("labels", each=0.01, joint=0.001, **{SUM: -1.0})
    now = outlook(make_knowledge(), worse, 1.0, [])
    assert not any(now.plan)
    assert list(order_rows(now)) == ["as in this run"]


def test_signals_of_pairs_are_means_over_those_that_an_update_acts_on() -> None:
    own = pd.DataFrame({"update": ["a", "b"], "relative_norm": [0.1, 0.2], "effective_rank": [np.nan, np.nan]})
    pairs = pd.DataFrame([("a", "b", 0.5), ("b", "a", 0.1), ("c", "b", 0.7)], columns=["i", "j", "interference"])
    rows = signal_rows(["b", "a"], {"updates": own, "pairs": pairs})
    assert list(rows["update"]) == ["b", "a"]
    assert rows["interference"].to_list() == pytest.approx([0.6, 0.1])
    assert rows["relative_norm"].to_list() == [0.2, 0.1]
    assert "effective_rank" not in rows  # of no update
    assert len(signal_rows(["a"], {"updates": pd.DataFrame(), "pairs": pd.DataFrame()})) == 0
    alone = signal_rows(["a"], {"updates": own, "pairs": pairs.iloc[:0]})
    assert list(alone) == ["update", "relative_norm"]
