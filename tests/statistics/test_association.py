import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from gcwm_viz.errors import InputError
from gcwm_viz.statistics.association import associate, association, weighted_spearman
from tests.rounding import rounding


def table(
    x: Sequence[Sequence[float] | NDArray[Any]] | NDArray[Any],
    y: Sequence[Sequence[float] | NDArray[Any]] | NDArray[Any],
    steps: int = 5,
    method: str = "m",
) -> pd.DataFrame:
    """Runs in rows of x and y, both (runs, steps)."""
    rows = [
        {"method": method, "seed": r, "order": "a,b", "step": t + 1, "x": x[r][t], "y": y[r][t]}
        for r in range(len(x))
        for t in range(steps)
    ]
    return pd.DataFrame(rows)


def draw(runs: int = 6, steps: int = 5, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(runs, steps)), rng.normal(size=(runs, steps))


def one(frame: pd.DataFrame, **settings: Any) -> "pd.Series[Any]":
    return association(frame, ["x"], ["y"], **settings).iloc[0]


def test_rho_is_scipys_and_monotone_maps_do_not_change_it() -> None:
    x, y = draw()
    row = one(table(x, y))
    assert row.rho == pytest.approx(spearmanr(x.ravel(), y.ravel()).statistic, abs=rounding(30))
    again = one(table(np.exp(x), y**3))
    assert (again.rho, again.low, again.high, again.p) == (row.rho, row.low, row.high, row.p)
    assert one(table(x, -y)).rho == pytest.approx(-row.rho)
    assert row.rows == 30
    assert row.runs == 6


def test_perfect_association() -> None:
    x, _ = draw()
    row = one(table(x, 2 * x + 1))
    assert row.rho == pytest.approx(1.0)
    assert (row.low, row.high) == pytest.approx((1.0, 1.0))
    assert row.p == pytest.approx(1 / 3001)


def test_weights_are_repetitions() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 5, 20).astype(float), rng.normal(size=20)
    weights = rng.integers(0, 4, (20, 3)).astype(float)
    for b in range(3):
        times = weights[:, b].astype(int)
        expected = spearmanr(np.repeat(x, times), np.repeat(y, times)).statistic
        assert weighted_spearman(x, y, weights)[b] == pytest.approx(expected, abs=rounding(int(times.sum())))


def test_interval_is_over_runs_not_rows() -> None:
    # Every row of a run says the same: one run more or less is all that varies, however many steps it has.
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(8, 1)), rng.normal(size=(8, 1))
    short = one(table(np.repeat(x, 2, 1), np.repeat(y, 2, 1), steps=2))
    long = one(table(np.repeat(x, 20, 1), np.repeat(y, 20, 1), steps=20))
    assert (short.low, short.high) == pytest.approx((long.low, long.high), abs=0.02)
    assert long.p < short.p  # shuffled rows are fooled by the repetitions
    assert long.p_runs == pytest.approx(short.p_runs, abs=0.03)


def test_permutation_p_is_the_exact_one_for_few_rows() -> None:
    x, y = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 1, 4, 3, 5])
    observed = spearmanr(x, y).statistic
    # Of five rows ρ is a multiple of 1/10.
    exact = np.mean([abs(spearmanr(x, p).statistic) > abs(observed) - 0.05 for p in itertools.permutations(y)])
    row = one(table([x], [y]), shuffles=20000)
    assert row.p == pytest.approx(exact, abs=0.01)


def test_p_is_uniform_without_association() -> None:
    values = [one(table(*draw(seed=s)), shuffles=300, resamples=10).p for s in range(60)]
    assert 0.35 < np.mean(values) < 0.65


def test_a_shared_trend_is_association_but_not_given_the_step() -> None:
    rng = np.random.default_rng(3)
    trend = np.arange(6.0)
    x, y = trend + 0.3 * rng.normal(size=(12, 6)), trend + 0.3 * rng.normal(size=(12, 6))
    row = one(table(x, y, steps=6))
    assert row.rho > 0.9
    assert row.p < 0.001
    assert abs(row.partial) < 0.3
    assert row.partial_low < 0 < row.partial_high
    assert row.p_runs > 0.05


def test_partial_against_its_definition() -> None:
    rng = np.random.default_rng(4)
    x, y, z = rng.normal(size=(3, 50))
    x += z
    xy, xz, yz = (spearmanr(a, b).statistic for a, b in ((x, y), (x, z), (y, z)))
    expected = (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2))

    def given(step: Any, signal: NDArray[Any] = x) -> float:
        frame = pd.DataFrame({"method": "m", "seed": range(50), "order": "a", "step": step, "x": signal, "y": y})
        return float(one(frame, resamples=2, shuffles=2).partial)

    assert given(z) == pytest.approx(expected, abs=2 * rounding(50))
    assert given(np.zeros(50)) == pytest.approx(xy, abs=rounding(50))
    assert np.isnan(given(z, signal=z))


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (np.zeros((3, 5)), np.arange(15.0).reshape(3, 5), "x is constant"),
        (np.arange(15.0).reshape(3, 5), np.ones((3, 5)), "y is constant"),
        (np.full((3, 5), np.nan), np.arange(15.0).reshape(3, 5), "fewer than three rows"),
        (np.full((3, 5), np.inf), np.arange(15.0).reshape(3, 5), "fewer than three rows"),
    ],
)
def test_undefined_is_nan_with_its_reason(x: Any, y: Any, reason: str) -> None:
    row = one(table(x, y))
    assert np.isnan(row.rho)
    assert np.isnan(row.p)
    assert reason in row.reason


def test_one_run_has_no_interval() -> None:
    x, y = draw(runs=1)
    row = one(table(x, y))
    assert np.isfinite(row.rho)
    assert np.isnan(row.low)
    assert "one run" in row.reason


def test_undefined_steps_are_left_out_and_ragged_runs_are_not_traded() -> None:
    x, y = draw()
    x[:, 0] = np.nan
    row = one(table(x, y))
    assert row.rho == pytest.approx(spearmanr(x[:, 1:].ravel(), y[:, 1:].ravel()).statistic)
    assert row.rows == 24
    assert np.isfinite(row.p_runs)
    x[0, 1] = np.nan
    row = one(table(x, y))
    assert np.isnan(row.p_runs)
    assert "different steps" in row.reason


def test_by_method_and_all_together() -> None:
    x, y = draw()
    both = pd.concat([table(x, y), table(x, -y, method="other")])
    split = association(both, ["x"], ["y"])
    assert list(split["method"]) == ["m", "other"]
    assert split.rho[0] == pytest.approx(-split.rho[1])
    pooled = association(both, ["x"], ["y"], by=None).iloc[0]
    assert pooled.runs == 12
    assert abs(pooled.rho) < 0.2


def test_an_entry_does_not_depend_on_its_company() -> None:
    x, y = draw()
    frame = table(x, y).assign(z=1.0)
    alone = association(frame, ["x"], ["y"]).iloc[0]
    among = association(frame, ["z", "x"], ["y"]).iloc[1]
    assert alone.to_dict() == among.to_dict()


def test_missing_column() -> None:
    with pytest.raises(InputError, match="expected a column 'nothing'"):
        association(table(*draw()), ["nothing"], ["y"])


def test_rows_in_any_order() -> None:
    x, y = draw()
    frame = table(x, y)
    rng = np.random.default_rng
    settings = {"resamples": 50, "shuffles": 50}
    first = associate(frame, "x", "y", rng=rng(0), **settings)
    shuffled = associate(frame.sample(frac=1, random_state=1), "x", "y", rng=rng(0), **settings)
    assert first["rho"] == pytest.approx(shuffled["rho"])
    assert first["runs"] == shuffled["runs"]
