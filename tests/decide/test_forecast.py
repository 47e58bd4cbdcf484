"""Forecasts recover a planted truth, claim nothing of noise, and believe what was measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gcwm_viz.decide.benchmark.validation import auc
from gcwm_viz.decide.features import NEEDS, Needs, features
from gcwm_viz.decide.forecast import Belief, Forecast, believe, fit, read, write
from gcwm_viz.decide.knowledge import Array
from gcwm_viz.errors import InputError
from gcwm_viz.statistics.resampling import multiplicities
from tests.factories_decide import all_plans, make_case, make_forecast, make_knowledge

PLANS = all_plans(3)
TRUTHS: dict[Needs, dict[str, float]] = {
    "labels": {"gain": 0.8, "others lose": 0.5, "gain × others": -0.2},
    "prompts": {"own": 0.3, "KL of others": -0.05, "crowd": 0.02},
    "updates": {"own": 0.3, "own × interference": -0.1},
}
GROUPS = range(8)


@pytest.fixture(scope="module", params=NEEDS)
def planted(request: pytest.FixtureRequest) -> Forecast:
    needs: Needs = request.param
    return fit([make_case(group, needs, TRUTHS[needs], 0.01) for group in GROUPS], "wudi", needs)


def test_a_planted_truth_is_recovered_on_new_cases(planted: Forecast) -> None:
    """Features go together, so forecasts are compared, not coefficients."""
    new = [make_case(group, planted.needs, TRUTHS[planted.needs]) for group in range(20, 26)]
    for case in new:
        found = planted.mean_change(case.known, case.plans_pt)
        truth = case.change_pk.mean(1)
        assert np.abs(found - truth).max() < 0.02
        assert float(np.corrcoef(found, truth)[0, 1]) > 0.98
    assert planted.noise < 0.02
    # Nothing but noise of 0.01 over three tasks is left for what plans have in common.
    assert planted.joint < 0.02
    assert planted.each < 0.02


@pytest.mark.parametrize("seed", [1, 2])
def test_noise_gives_no_skill_small_forecasts_and_wide_intervals(seed: int) -> None:
    """Four times three cases are left out, as the benchmark leaves out seeds."""
    noise = 0.1
    cases = [make_case(group, "labels", {}, noise, seed=seed) for group in range(12)]
    found, harm, groups = [], [], []
    for left_out in range(4):
        forecast = fit([case for case in cases if case.group % 4 != left_out], "wudi", "labels")
        assert forecast.ridge >= 10
        for case in cases[left_out::4]:
            change, truth = forecast.mean_change(case.known, case.plans_pt), case.change_pk.mean(1)
            assert float(np.abs(change).mean()) < 0.4 * noise / 3**0.5
            without = [int(np.flatnonzero((1.0 - np.eye(3)[j] == PLANS).all(1))[0]) for j in range(3)]
            found += list(change[without] - change[-1])
            harm += list(truth[without] > truth[-1])
            groups += [case.group] * 3
        belief = believe(forecast, case.known, PLANS)
        of_difference = (
            belief.difference(at(belief, 1, 1, 1), at(belief, 0, 1, 1))[1] ** 2 + 2 * forecast.noise**2
        ) ** 0.5
        assert of_difference == pytest.approx(2**0.5 * noise / 3**0.5, rel=0.4)
    weights = multiplicities(12, 400, np.random.default_rng(0))[np.array(groups)]
    _, low, high = auc(np.array(found), np.array(harm), weights)
    assert low < 0.5 < high


def test_a_forecast_stays_within_what_a_score_can_be() -> None:
    known = make_knowledge()
    plans = all_plans(3, (0.0, 1.0, 3.0))
    for sign in (50.0, -50.0):
        score = known.base + make_forecast(gain=sign).change(known, plans)
        assert score.min() >= 0
        assert score.max() <= 1
    unknown = make_knowledge(labels=False)
    change = make_forecast("updates", own=50.0).change(unknown, plans)
    assert change.max() == 1
    assert np.isfinite(change).all()


def test_what_lies_outside_is_named() -> None:
    cases = [make_case(group, "labels", TRUTHS["labels"], 0.01) for group in GROUPS]
    forecast = fit(cases, "wudi", "labels")
    assert all(forecast.outside(case.known, case.plans_pt) == [] for case in cases)
    known = make_knowledge(seed=77)
    assert forecast.outside(known, PLANS) == []
    far = replace(known, kl=50 * known.kl)
    found = forecast.outside(far, PLANS)
    assert "gain × KL of others" in found
    assert not any("interference" in name or "input side" in name for name in found)
    assert forecast.outside(far, PLANS[:1]) == []  # the base alone


def test_written_and_read(tmp_path: Path) -> None:
    forecasts = [make_forecast(needs) for needs in NEEDS]
    file = tmp_path / "forecast.json"
    write(forecasts, {"source": "a test"}, file)
    assert read(file) == forecasts
    assert json.loads(file.read_text())["source"] == "a test"


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"forecasts": [{"method": "wudi"}]}', '{"forecasts": ["a"]}', '{"forecasts": 1}']
)
def test_what_is_no_table_of_forecasts_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "forecast.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match=r"forecast\.json: expected a table of forecasts"):
        read(file)


def test_the_shipped_forecasts_know_the_features() -> None:
    shipped = read()
    assert {each.needs for each in shipped if each.method == "wudi"} == set(NEEDS)
    known = make_knowledge()
    for each in shipped:
        names, _ = features(known, PLANS, each.needs)
        assert list(each.coefficients) == list(each.low) == list(each.high) == names


def covariance(forecast: Forecast, plans: Array, others: Array) -> Array:
    """Of the errors of plans with updates, written out; none of the base."""
    squared = ((plans[:, None] - others[None]) ** 2).sum(-1)
    full = forecast.each**2 * plans @ others.T + forecast.joint**2 * np.exp(-squared / (2 * forecast.length**2))
    taken = np.outer(plans.any(1), others.any(1))
    found: Array = np.where(taken, full, 0.0)
    return found


def posterior(forecast: Forecast, measured: list[tuple[tuple[float, ...], float, float]]) -> tuple[Array, Array]:
    own = np.array([plan for plan, _, _ in measured])
    gap = np.array([value for _, value, _ in measured]) - forecast.mean_change(KNOWN, own)
    inner = covariance(forecast, own, own) + np.diag([error**2 for _, _, error in measured])
    cross = covariance(forecast, PLANS, own)
    mean = forecast.mean_change(KNOWN, PLANS) + cross @ np.linalg.solve(inner, gap)
    return mean, covariance(forecast, PLANS, PLANS) - cross @ np.linalg.solve(inner, cross.T)


KNOWN = make_knowledge(3)
FORECAST = make_forecast(gain=0.6)
MEASURED = [((1.0, 1.0, 0.0), -0.1, 0.01), ((0.0, 0.0, 1.0), 0.2, 0.03)]


@pytest.mark.parametrize("measured", [[], MEASURED[:1], MEASURED])
def test_belief_is_the_posterior_of_a_normal_process(measured: Any) -> None:
    belief = believe(FORECAST, KNOWN, PLANS, measured)
    if measured:
        mean, cov = posterior(FORECAST, measured)
    else:
        mean, cov = FORECAST.mean_change(KNOWN, PLANS), covariance(FORECAST, PLANS, PLANS)
    assert belief.mean_p == pytest.approx(mean, abs=1e-9)
    assert belief.sd_p == pytest.approx(np.sqrt(np.diag(cov)), abs=1e-7)
    for first in range(len(PLANS)):
        for second in range(len(PLANS)):
            gap, sd = belief.difference(first, second)
            assert gap == pytest.approx(mean[first] - mean[second], abs=1e-9)
            variance = cov[first, first] + cov[second, second] - 2 * cov[first, second]
            assert sd == pytest.approx(max(variance, 0.0) ** 0.5, abs=1e-7)


@pytest.mark.parametrize("measured", [[], MEASURED, [((0.0, 0.0, 0.0), 0.4, 0.01)]])
def test_the_base_is_certain(measured: Any) -> None:
    """It is what changes are measured from, so nothing that is said of it counts either."""
    belief = believe(FORECAST, KNOWN, PLANS, measured)
    assert (belief.mean_p[0], belief.sd_p[0]) == (0.0, 0.0)
    for k in range(1, len(PLANS)):
        assert belief.difference(k, 0) == pytest.approx((belief.mean_p[k], belief.sd_p[k]))
    if measured and not any(measured[0][0]):
        assert belief.mean_p == pytest.approx(believe(FORECAST, KNOWN, PLANS).mean_p)


def at(belief: Belief, *plan: float) -> int:
    index = belief.index(plan)
    assert index is not None
    return index


def test_what_was_measured_well_is_believed_and_shared() -> None:
    before = believe(FORECAST, KNOWN, PLANS)
    low = float(before.mean_p[at(before, 1, 1, 0)]) - 0.2
    after = believe(FORECAST, KNOWN, PLANS, [((1, 1, 0), low, 1e-4)])
    here = at(after, 1, 1, 0)
    assert after.mean_p[here] == pytest.approx(low, abs=1e-4)
    assert after.sd_p[here] < 2e-4
    moved = after.mean_p - before.mean_p
    # It falls most where both updates are, less where one is, least where neither is.
    both, one, neither = (moved[at(after, *plan)] for plan in ((1, 1, 1), (1, 0, 0), (0, 0, 1)))
    assert both < one < neither <= 0
    assert (after.sd_p <= before.sd_p + 1e-12).all()
    # A measurement with a large error hardly counts.
    vague = believe(FORECAST, KNOWN, PLANS, [((1, 1, 0), low, 10.0)])
    assert vague.mean_p == pytest.approx(before.mean_p, abs=1e-3)


def test_places_of_plans() -> None:
    belief = believe(FORECAST, KNOWN, PLANS)
    assert belief.index((1 - 1e-12, 0, 1)) == at(belief, 1, 0, 1)
    assert belief.index((0.5, 0, 1)) is None
    assert belief.mean_p[belief.best] == belief.mean_p.max()


def test_models_count_alike_and_each_has_its_range() -> None:
    """Of a model with a tenth of the pools, whose truth is another, as much as of the first."""
    one, other = ({"gain": 1.0}, {"gain": 0.2})
    cases = [make_case(group, "labels", one) for group in range(20)]
    few = [replace(make_case(group, "labels", other), model="other") for group in (30, 31)]
    new = make_case(50, "labels", {})
    alone, both = (
        float(fit(own, "wudi", "labels").mean_change(new.known, new.plans_pt).sum()) for own in (cases, [*cases, *few])
    )
    assert 0.45 * alone < both < 0.75 * alone  # half way, 0.6, from the one to the other
    far = replace(few[0], known=replace(few[0].known, solo=few[0].known.solo * 0.5 + 0.5))
    narrow, wide = (fit(own, "wudi", "labels") for own in (cases, [*cases, far]))
    assert all(wide.low[name] <= narrow.low[name] for name in narrow.low)
    assert all(wide.high[name] >= narrow.high[name] for name in narrow.high)
    assert wide.high != narrow.high
