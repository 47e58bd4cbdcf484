"""Rank correlation over cells, and its mean over pairs: closed forms, SciPy, invariances, coverage of the interval."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from gcwm_viz.attribution.spatial import FEWEST_CLUSTERS, spatial_correlations, spatial_summary
from gcwm_viz.errors import InputError
from gcwm_viz.signals.catalogue import ACTIVE, INCOMING, SAR
from tests.factories_attribution import ORDER, TASKS, make_attribution
from tests.factories_runs import make_tables

SIGNALS = [ACTIVE.column, SAR.column, INCOMING.column]


def matrices_of(attribution: pd.DataFrame, **columns: pd.Series) -> pd.DataFrame:
    """A table ``matrices`` of the same cells, with signals given per row of ``attribution``."""
    table = attribution[["step", "matrix"]].assign(**columns)
    return table.drop_duplicates(["step", "matrix"])


def planted(steps: int, cells: int = 28, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One task ``u`` over single steps, with a signal drawn apart from it."""
    rng = np.random.default_rng(seed)
    attribution = pd.DataFrame(
        [(t - 1, t, "u", f"m{k}", k // 7, rng.normal()) for t in range(1, steps + 1) for k in range(cells)],
        columns=["start", "step", "task", "matrix", "layer", "value"],
    )
    return attribution, matrices_of(attribution, s=pd.Series(rng.normal(size=len(attribution))))


def test_a_monotone_signal_has_rho_one_and_its_opposite_minus_one() -> None:
    attribution, _ = planted(2)
    matrices = matrices_of(attribution, up=attribution["value"] ** 3, down=-np.exp(attribution["value"]))
    made = spatial_correlations(attribution, matrices, ["up", "down"], order=["u"])
    assert made["signal"].tolist() == ["up", "down"] * 2
    assert made["rho"].tolist() == pytest.approx([1, -1, 1, -1])
    assert made["cells"].tolist() == [28] * 4
    assert made["role"].tolist() == ["arrived", "arrived", "earlier", "earlier"]


def test_rho_is_scipys_of_the_cells_of_one_task_and_step() -> None:
    attribution, matrices = make_attribution(outside=0.5), make_tables()["matrices"]
    made = spatial_correlations(attribution, matrices, SIGNALS, order=ORDER)
    assert len(made) == 3 * len(TASKS) * len(SIGNALS)
    for row in made[made["step"] > 1].to_dict("records"):
        own = attribution[(attribution["start"] == row["start"]) & (attribution["step"] == row["step"])]
        own = own[(own["task"] == row["task"]) & (own["layer"] >= 0)]
        both = own.merge(matrices[matrices["step"] == row["step"]], on="matrix")
        assert row["rho"] == pytest.approx(spearmanr(both[row["signal"]], both["value"]).statistic)
        assert row["cells"] == len(both) == 28
    first = made[made["step"] == 1]
    assert first["rho"].isna().all()  # no pair and no state before the first update
    assert set(first["reason"]) == {"expected at least 5 cells where both are defined, found 0"}


def test_the_order_of_rows_changes_nothing() -> None:
    attribution, matrices = planted(8)
    attribution = pd.concat([attribution, attribution.assign(task="v", value=-(attribution["value"] ** 2))])
    first = spatial_correlations(attribution, matrices, ["s"], order=["u", "v"])
    rows, cells = (table.sample(frac=1, random_state=3) for table in (attribution, matrices))
    pd.testing.assert_frame_equal(first, spatial_correlations(rows, cells, ["s"], order=["u", "v"]))
    summary = spatial_summary(first, cluster=["step"])
    pd.testing.assert_frame_equal(summary, spatial_summary(first.sample(frac=1, random_state=3), cluster=["step"]))


def test_single_steps_and_target_matrices_count_alone() -> None:
    attribution, matrices = planted(3)
    over = attribution[attribution["step"] == 3].assign(start=0)
    outside = attribution.iloc[[0]].assign(matrix="norm", layer=-1, value=1e6)
    more = spatial_correlations(pd.concat([attribution, over, outside]), matrices, ["s"], order=["u"])
    pd.testing.assert_frame_equal(more, spatial_correlations(attribution, matrices, ["s"], order=["u"]))


def test_undefined_cells_are_left_out_and_counted() -> None:
    attribution, matrices = planted(1)
    matrices.loc[matrices.index[:3], "s"] = np.nan
    attribution.loc[attribution.index[3], "value"] = np.inf
    made = spatial_correlations(attribution, matrices, ["s"], order=["u"]).iloc[0]
    assert made["cells"] == 24
    assert made["rho"] == pytest.approx(spearmanr(matrices["s"][4:], attribution["value"][4:]).statistic)


@pytest.mark.parametrize(
    ("signal", "value", "reason"),
    [
        (pd.Series(2.0, range(28)), pd.Series(range(28), dtype=float), "s is the same in all cells"),
        (pd.Series(range(28), dtype=float), pd.Series(0.0, range(28)), "the attribution is the same in all cells"),
        (pd.Series(range(28), dtype=float).where(lambda x: x < 4), pd.Series(range(28)), "at least 5 cells .* found 4"),
    ],
)
def test_what_cannot_be_ranked_is_nan_with_a_reason(signal: pd.Series, value: pd.Series, reason: str) -> None:
    attribution, _ = planted(1)
    attribution["value"] = value
    made = spatial_correlations(attribution, matrices_of(attribution, s=signal), ["s"], order=["u"])
    assert np.isnan(made["rho"][0])
    assert pd.Series(made["reason"]).str.contains(reason).all()


def test_wrong_tables_are_named() -> None:
    attribution, matrices = planted(2)
    with pytest.raises(InputError, match="table matrices: expected a column 'sar', found step, matrix, s"):
        spatial_correlations(attribution, matrices, ["sar"], order=["u"])
    with pytest.raises(InputError, match="table attribution: expected a column 'value'"):
        spatial_correlations(attribution.drop(columns="value"), matrices, ["s"], order=["u"])
    with pytest.raises(
        InputError, match="attribution: expected rows of one split, found 'm0' twice for start 0, step 1"
    ):
        spatial_correlations(pd.concat([attribution, attribution]), matrices, ["s"], order=["u"])
    with pytest.raises(InputError, match="matrices: expected rows of one run, found 'm0' twice"):
        spatial_correlations(attribution, pd.concat([matrices, matrices]), ["s"], order=["u"])
    with pytest.raises(InputError, match="table correlations: expected a column 'run'"):
        spatial_summary(spatial_correlations(attribution, matrices, ["s"], order=["u"]), cluster=["run"])


def test_no_row_gives_empty_tables() -> None:
    attribution, matrices = planted(2)
    made = spatial_correlations(attribution.iloc[:0], matrices, ["s"], order=["u"])
    assert made.empty
    assert spatial_summary(made, cluster=["step"]).empty


def correlations(rho: list[float], step: list[int], reason: str = "") -> pd.DataFrame:
    return pd.DataFrame({"signal": "s", "rho": rho, "step": step, "reason": reason})


def test_the_mean_weighs_pairs_alike_and_leaves_undefined_ones_out() -> None:
    made = spatial_summary(correlations([0.1, 0.2, np.nan, 0.6], [1, 1, 1, 2]), cluster=["step"]).iloc[0]
    assert made["rho"] == pytest.approx(0.3)
    assert (made["pairs"], made["clusters"]) == (3, 2)


def test_equal_pairs_have_an_interval_of_no_width() -> None:
    made = spatial_summary(correlations([0.25] * 8, list(range(8))), cluster=["step"]).iloc[0]
    assert (made["low"], made["high"], made["reason"]) == (0.25, 0.25, "")


def test_few_clusters_have_a_mean_and_no_interval() -> None:
    few = correlations([0.1] * 9, [*range(1, FEWEST_CLUSTERS), 1, 1, 2, 3, 4])
    made = spatial_summary(few, cluster=["step"]).iloc[0]
    assert made["rho"] == pytest.approx(0.1)
    assert np.isnan([made["low"], made["high"]]).all()
    assert made["reason"] == "an interval takes 5 clusters, found 4"
    none = spatial_summary(correlations([np.nan] * 2, [1, 2], "s is the same in all cells"), cluster=["step"]).iloc[0]
    assert (none["pairs"], none["clusters"], none["reason"]) == (0, 0, "s is the same in all cells")


def test_several_columns_name_a_cluster() -> None:
    table = correlations([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [1, 2, 1, 2, 1, 2]).assign(run=list("aabbcc"))
    assert spatial_summary(table, cluster=["run"])["clusters"][0] == 3
    assert spatial_summary(table, cluster=["run", "step"])["clusters"][0] == 6


def test_intervals_are_seeded() -> None:
    rng = np.random.default_rng(1)
    table = correlations(list(rng.uniform(-1, 1, 30)), [k // 3 for k in range(30)])
    first, again, other = (spatial_summary(table, cluster=["step"], seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert (first["low"] != other["low"]).all()


def test_the_interval_over_clusters_covers_the_mean_where_one_over_pairs_does_not() -> None:
    """20 clusters of four pairs that share most of their ρ: about 93 % are to be covered, 5 σ of 300 draws is 7 %."""
    rng = np.random.default_rng(2)
    step = [k // 4 for k in range(80)]
    covered = {"step": 0, "pair": 0}
    for draw in range(300):
        rho = 0.2 + np.repeat(rng.normal(0, 0.2, 20), 4) + rng.normal(0, 0.05, 80)
        table = correlations(list(rho), step).assign(pair=range(80))
        for cluster in covered:
            made = spatial_summary(table, cluster=[cluster], resamples=400, seed=draw).iloc[0]
            covered[cluster] += made["low"] <= 0.2 <= made["high"]
    assert 0.86 < covered["step"] / 300 <= 1
    assert covered["pair"] / 300 < 0.75


def test_a_column_named_twice_is_refused() -> None:
    """Its pairs would count twice."""
    with pytest.raises(InputError, match="columns: expected each signal once"):
        spatial_correlations(make_attribution(), make_tables()["matrices"], ["sar", "sar"], order=ORDER)
