"""Every declared predictor has a text and a value; nothing is measured that is not declared."""

import numpy as np
import pandas as pd
import pytest

from gcwm_viz.decide.benchmark.lab import LabPools
from gcwm_viz.decide.knowledge import Knowledge
from gcwm_viz.signals.interference import PAIR_TABLES
from gcwm_viz.signals.predictors import PREDICTORS
from tests.decide.benchmark.tiny_pools import RECIPE, tiny_pools

OF_KNOWLEDGE = {"base_loss", "solo"}
"""Read from the scores of base and experts, which no predictor computes."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    with tiny_pools():
        bench = LabPools(5, RECIPE, tmp_path_factory.mktemp("trained"))
        bench.pools = bench.pools[:2]
        rows = bench.predictors() | {"solo": bench.solo()}
    return {name: pd.DataFrame(own) for name, own in rows.items()}


def test_every_predictor_says_what_it_is() -> None:
    for column, predictor in PREDICTORS.items():
        assert predictor.column == column
        assert predictor.title
        assert predictor.line.endswith(".")
        assert predictor.needs in ("updates", "prompts", "labels")
        assert predictor.between in ("update", "pair", "task")
        # Plain text on charts; TeX stays in the formula.
        assert "\\" not in predictor.title + predictor.line
    assert len({predictor.title for predictor in PREDICTORS.values()}) == len(PREDICTORS)


@pytest.mark.parametrize(("table", "between"), [("updates", "update"), ("pairs", "pair"), ("effects", "task")])
def test_the_tables_hold_the_declared_ones_and_no_other(
    tables: dict[str, pd.DataFrame], table: str, between: str
) -> None:
    declared = {column for column, each in PREDICTORS.items() if each.between == between} - OF_KNOWLEDGE
    labels = {"updates": {"update", "task", "kind"}, "pairs": {"i", "j"}, "effects": {"update", "task"}}[table]
    # The divergence on every task is declared as a mean over tasks: its own, and the others.
    assert set(tables[table].columns) - labels - {"kl_task"} == declared
    for column in declared - {"trailing"}:
        assert tables[table][column].notna().all(), column
        assert tables[table][column].nunique() > 1 or column == "intruders", column


def test_what_needs_updates_alone_is_computed_from_them() -> None:
    pairs = {column for column, each in PREDICTORS.items() if each.needs == "updates" and each.between == "pair"}
    assert pairs == {*PAIR_TABLES, "alignment"} - {"inner"}


def test_the_rest_is_known_from_scores(tables: dict[str, pd.DataFrame]) -> None:
    names = list(tables["updates"]["update"])
    tasks = list(dict.fromkeys(tables["solo"]["task"]))
    known = Knowledge.of(names, list(tables["updates"]["task"]), tasks, tables)
    for values in (known.base_loss, known.solo, known.kl, known.first_order_base, known.relative_norm):
        assert np.isfinite(values).all()
    assert np.isnan(np.diagonal(known.pairs["interference"])).all()
    base = tables["solo"].query("update == '' and split == 'dev'").set_index("task")
    assert known.base_loss == pytest.approx(base["nll"][tasks].to_numpy())
    one = tables["solo"].query("update == @names[1] and split == 'dev' and strength == 1").set_index("task")
    assert known.solo[1, :, 1] == pytest.approx(one["em"][tasks].to_numpy())


def test_a_good_update_lowers_its_own_loss_and_divergence_is_by_task(tables: dict[str, pd.DataFrame]) -> None:
    own = tables["effects"].merge(tables["updates"][["update", "task", "kind"]], on=["update", "task"])
    assert (own[own["kind"] == "good"]["first_order_base"] < 0).all()
    assert (tables["updates"]["kl"] > 0).all()
    kl = tables["effects"].pivot(index="update", columns="task", values="kl_task")
    for row in tables["updates"].to_dict("records"):
        others = kl.loc[row["update"]].drop(row["task"])
        assert row["kl"] == pytest.approx(kl.loc[row["update"], row["task"]])
        assert row["kl_others"] == pytest.approx(others.mean())
