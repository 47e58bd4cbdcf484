from typing import Any

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.errors import InputError
from gcwm_viz.statistics.comparison import final_steps, method_means, paired_differences


def runs(gain: float = 0.1, seeds: int = 4, noise: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        level = rng.normal()
        for order in ("a,b", "b,a"):
            for method, shift in (("old", 0.0), ("new", gain)):
                for step in (1, 2):
                    value = level + shift + noise * rng.normal() + 10.0 * (step == 1)
                    rows.append({"method": method, "seed": seed, "order": order, "step": step, "y": value})
    return pd.DataFrame(rows)


def test_only_the_last_step_counts() -> None:
    final = final_steps(runs())
    assert set(final["step"]) == {2}
    assert len(final) == 16


def test_means_and_differences_of_known_runs() -> None:
    frame = runs()
    means: Any = method_means(frame, "y").set_index("method")
    assert list(means.index) == ["new", "old"]
    assert means.loc["new", "mean"] - means.loc["old", "mean"] == pytest.approx(0.1)
    assert means.loc["old", "low"] < means.loc["old", "mean"] < means.loc["old", "high"]
    row = paired_differences(frame, "y", "old").iloc[0]
    # What seeds have in common is gone from the difference.
    assert (row.difference, row.low, row.high) == pytest.approx((0.1, 0.1, 0.1))
    assert row.p == pytest.approx(2 / 2**4)
    assert (row.pairs, row.seeds) == (8, 4)
    assert paired_differences(frame, "y", "new").iloc[0].difference == pytest.approx(-0.1)


def test_orders_are_not_counted_as_if_they_were_seeds() -> None:
    frame = runs(noise=0.2)
    once = frame[frame["order"] == "a,b"]
    copied = pd.concat([once, once.assign(order="b,a")])
    assert (
        paired_differences(copied, "y", "old")
        .drop(columns="pairs")
        .equals(paired_differences(once, "y", "old").drop(columns="pairs"))
    )


def test_many_seeds_without_a_difference() -> None:
    frame = runs(gain=0.0, seeds=30, noise=1.0)
    row = paired_differences(frame, "y", "old").iloc[0]
    assert row.low < 0 < row.high
    assert 0.05 < row.p <= 1


@pytest.mark.parametrize("scale", [1e-13, 1.0, 1e13])
def test_p_does_not_see_the_unit_of_the_target(scale: float) -> None:
    frame = runs(gain=0.3, seeds=6, noise=0.2)
    p = paired_differences(frame, "y", "old").iloc[0].p
    assert p < 1
    assert paired_differences(frame.assign(y=scale * frame["y"]), "y", "old").iloc[0].p == p


def test_equal_sums_of_scores_count_as_equal_however_they_round() -> None:
    """0.1 + 0.2 − 0.3 is zero, which every choice of signs reaches."""
    rows = [("old", s, "a", 1, 0.7) for s in range(3)]
    rows += [("new", s, "a", 1, 0.7 + change) for s, change in enumerate((0.1, 0.2, -0.3))]
    frame = pd.DataFrame(rows, columns=["method", "seed", "order", "step", "y"])
    assert paired_differences(frame, "y", "old").iloc[0].p == 1


def test_one_seed_has_a_mean_and_no_interval() -> None:
    row = paired_differences(runs(seeds=1), "y", "old").iloc[0]
    assert row.difference == pytest.approx(0.1)
    assert np.isnan([row.low, row.high, row.p]).all()
    assert method_means(runs(seeds=1), "y")["low"].isna().all()


def test_undefined_and_unpaired_runs_are_left_out() -> None:
    frame = runs()
    frame.loc[(frame["method"] == "new") & (frame["seed"] == 0), "y"] = np.nan
    row = paired_differences(frame, "y", "old").iloc[0]
    assert (row.pairs, row.seeds) == (6, 3)
    alone = pd.concat([runs(), runs().query("method == 'new'").assign(method="other", order="c,d")])
    assert list(paired_differences(alone, "y", "old")["method"]) == ["new"]


def test_refusals() -> None:
    with pytest.raises(InputError, match="expected runs of 'none'"):
        paired_differences(runs(), "y", "none")
    with pytest.raises(InputError, match="expected a column 'z'"):
        method_means(runs(), "z")
