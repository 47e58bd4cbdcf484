"""What is expected of a run's updates: which plans were measured, which forecast fits, and a plan that agrees with the
verdicts."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.decide.features import features
from gcwm_viz.decide.forecast import believe
from gcwm_viz.decide.knowledge import Knowledge
from gcwm_viz.decide.outlook import (
    Outlook,
    base_scores,
    forecast_for,
    measured_plans,
    no_forecast,
    outlook,
)
from gcwm_viz.decide.search import Measured, candidate_plans
from gcwm_viz.decide.verdict import SMALL
from tests.factories_decide import make_forecast, make_knowledge
from tests.factories_forecast import SUM, forecasts
from tests.factories_runs import NASTY, TASKS, make_tables

ETA = 0.5
ADDITIVE = make_forecast("labels", **{SUM: 1.0})


def tables(**others: pd.DataFrame) -> dict[str, pd.DataFrame]:
    nothing = pd.DataFrame(columns=["split"])
    made = make_tables("normal")
    return {"plans": nothing, "strength": nothing.iloc[:, :0], **made, **others}


def values(table: pd.DataFrame) -> pd.Series:
    return table.query("split == 'dev' and metric == 'em'").set_index("task")["value"].astype(float)


def by_plan(found: list[Measured]) -> dict[tuple[float, ...], Measured]:
    named = {m.plan: m for m in found}
    assert len(named) == len(found)
    return named


def test_every_source_of_measured_plans_is_read() -> None:
    all_tables = tables()
    scores, left = all_tables["scores"], all_tables["leave_one_out"]
    base = values(scores[scores["model"] == "base"])
    found = by_plan(measured_plans(all_tables, TASKS, ETA))
    for k, name in enumerate(TASKS):
        alone = tuple(float(i == k) for i in range(6))  # an expert is the whole update, whatever η
        expert = values(scores[(scores["model"] == "expert") & (scores["update"] == name)])
        assert found[alone].value == pytest.approx((expert - base).mean())
        assert found[alone].error == pytest.approx(0.02 / 6**0.5)
        step = values(scores[(scores["model"] == "step") & (scores["step"] == k + 1)])
        first = tuple(ETA if i <= k else 0.0 for i in range(6))
        assert found[first].value == pytest.approx((step - base).mean())
        without = tuple(0.0 if i == k else ETA for i in range(6))
        if k < 5:  # without the last update it is the step before, which comes first
            effect = values(left[left["left_out"] == name])
            assert found[without].value == pytest.approx((effect - base).mean())
    assert len(found) == 6 + 6 + 5


def test_strengths_of_the_final_state_and_searched_plans_are_plans() -> None:
    rows = [{"task": task, "metric": "em", "value": 0.5, "se": 0.02, "n": 200} for task in TASKS]
    strength = pd.DataFrame([{"strength": s} | row for s in (0.3, 1.4) for row in rows])
    plan = {"eval": 1.0, "past": 1 / 3}
    plans = pd.DataFrame(
        [
            {"plan": "a", "strengths": json.dumps(plan), "split": split} | row
            for split in ("dev", "test")
            for row in rows
        ]
    )
    found = by_plan(measured_plans(tables(strength=strength, plans=plans), TASKS, ETA))
    base = base_scores(make_tables("normal")["scores"]).mean()
    for key in ((0.15,) * 6, (0.7,) * 6, (ETA / 3, 0.0, 0.0, 0.0, 0.0, ETA)):
        near = next(m for plan, m in found.items() if np.allclose(plan, key))
        assert near.value == pytest.approx(0.5 - base)


def test_a_plan_without_one_of_the_scores_is_not_measured() -> None:
    nan = make_tables("nan")
    found = measured_plans(tables(**nan), [*TASKS[:2], NASTY], 1.0)
    assert found
    assert all(math.isfinite(m.value) and math.isfinite(m.error) for m in found)
    assert (1.0, 1.0, 0.0) not in by_plan(found)  # step 2 was not measured
    scores = make_tables("normal")["scores"]
    short = scores[(scores["model"] != "expert") | (scores["task"] != "close")]
    assert not [
        m for m in measured_plans(tables(scores=short), TASKS, ETA) if sum(map(bool, m.plan)) == 1 and m.plan[1]
    ]
    assert measured_plans(tables(scores=scores.iloc[:0]), TASKS, ETA) == []
    assert base_scores(scores.iloc[:0]).empty


def settings(method: str = "wudi", **single: object) -> RunSettings:
    return RunSettings.preset_with("scale-free", single, method)


@pytest.mark.parametrize(
    ("of_run", "trained", "says"),
    [
        (settings(), True, "training pipeline, so there is nothing to choose"),
        (settings("ties"), False, "no forecast for the method ties, only for wudi"),
        (settings("opcm"), False, "forecasts hold for merges that do not depend on the order; here the method opcm"),
        (settings(memory=2), False, "here the memory keeps the last 2 updates"),
        (settings(policy="current_anchor"), False, "folds earlier updates into one"),
    ],
)
def test_why_there_is_no_forecast(of_run: RunSettings, trained: bool, says: str) -> None:
    made = forecasts("wudi")
    assert says in no_forecast(made, of_run, trained=trained)
    assert forecast_for(made, make_knowledge(), of_run, trained=trained) == (
        None,
        no_forecast(made, of_run, trained=trained),
    )


def test_the_forecast_that_uses_most_is_taken() -> None:
    made = {each.needs: each for each in forecasts("wudi")}
    every = list(made.values())
    assert no_forecast(every, settings()) == ""
    for known, needs in (
        (make_knowledge(), "labels"),
        (make_knowledge(labels=False), "prompts"),
        (make_knowledge(labels=False, prompts=False), "updates"),
    ):
        assert forecast_for(every, known, settings()) == (made[needs], "")  # type: ignore[index]
    assert forecast_for([made["updates"]], make_knowledge(), settings()) == (made["updates"], "")
    found, reason = forecast_for([made["labels"]], make_knowledge(labels=False), settings())
    assert found is None
    assert reason == "the benchmark has no forecast without probes"


def test_a_forecast_inside_its_range_goes_before_one_that_uses_more() -> None:
    made = {each.needs: each for each in forecasts("wudi")}
    narrow = {needs: replace(each, high=dict.fromkeys(each.high, 0.0), low=dict.fromkeys(each.low, 0.0))
              for needs, each in made.items()}  # fmt: skip
    known = make_knowledge()
    assert narrow["labels"].outside(known, np.ones((1, 3)))
    assert forecast_for([narrow["labels"], made["prompts"], made["updates"]], known, settings())[0] is made["prompts"]
    assert forecast_for([narrow["labels"], narrow["prompts"], made["updates"]], known, settings())[0] is made["updates"]
    # Where all are outside, the one that uses most, which says so.
    assert forecast_for(list(narrow.values()), known, settings())[0] is narrow["labels"]
    # The range is that of the run's own strength.
    names, weak = features(known, np.full((1, 3), 0.1), "labels")
    gain = float(weak[..., names.index("gain")].max())
    wide = replace(made["labels"], high=made["labels"].high | {"gain": gain}, low=made["labels"].low | {"gain": 0.0})
    for eta, needs in ((1.0, "prompts"), (0.1, "labels")):
        found, _ = forecast_for([wide, made["prompts"]], known, settings(eta=eta))
        assert found is not None
        assert found.needs == needs


def looked(known: Knowledge, measured: tuple[Measured, ...] = (), eta: float = 1.0) -> Outlook:
    return outlook(known, ADDITIVE, eta, measured)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_the_plan_does_what_the_verdicts_on_it_say(seed: int, eta: float) -> None:
    known = make_knowledge(5, seed)
    rng = np.random.default_rng(seed)
    measured = tuple(
        Measured(tuple(eta * plan), float(rng.normal(0.1, 0.1)), 0.02) for plan in rng.integers(0, 2, (4, 5))
    )
    now = looked(known, measured, eta)
    assert now.plan == pytest.approx([verdict.strength for verdict in now.verdicts])
    # It is about as good as the best of all candidates: each verdict gives up less than what does not count.
    plans = eta * candidate_plans(5)
    best = believe(ADDITIVE, known, plans, [(m.plan, m.value, m.error) for m in measured]).mean_p.max()
    assert now.expected(now.plan)[0] >= best - 5 * SMALL


def test_scores_and_strengths_of_an_outlook() -> None:
    known = make_knowledge()
    now = looked(known, (Measured((0.5, 0.5, 0.5), 0.1, 0.02),), eta=0.5)
    assert now.base == pytest.approx(known.base.mean())
    assert now.everything == (0.5, 0.5, 0.5)
    assert now.strengths((0.5, 0.0, 1 / 6)) == pytest.approx({"u0": 1.0, "u2": 1 / 3})
    found = now.found((0.5, 0.5, 0.5 + 1e-12))
    assert found is not None
    assert found.value == 0.1
    assert now.found((0.5, 0.5, 0.0)) is None
    assert math.isnan(looked(make_knowledge(labels=False)).base)


def test_outside_its_range_the_best_measured_plan_is_recommended() -> None:
    known, near = make_knowledge(), dict.fromkeys(ADDITIVE.high, 1e-3)
    narrow = replace(ADDITIVE, high=near, low={name: -value for name, value in near.items()})
    measured = [Measured((1.0, 0.0, 0.0), 0.05, 0.02), Measured((1.0, 0.0, 1.0), 0.2, 0.02)]
    now = outlook(known, narrow, 1.0, measured)
    assert SUM in now.outside
    assert now.recommended == (1.0, 0.0, 1.0)
    assert outlook(known, narrow, 1.0, []).recommended == now.everything
    inside = looked(known, tuple(measured))
    assert not inside.outside
    assert inside.recommended == inside.plan
