"""Where forgetting is in the lab's systems, on a tiny lab: complete splits, resuming, and the shipped tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.study import ship_where
from gcwm_viz.attribution.path import MOST_NODES
from gcwm_viz.errors import InputError
from gcwm_viz.studies.lab.bench import Bench
from gcwm_viz.studies.lab.places import SIGNALS, read_where, where_sections
from gcwm_viz.studies.lab.where import SYSTEMS, where
from tests.experiments.lab.tiny_lab import TINY

SOME = ("wudi", "seq-sft")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_lab: None) -> tuple[Path, dict[str, pd.DataFrame]]:
    out = tmp_path_factory.mktemp("where") / "out"
    return out, where(out, orders=2, seeds=1, methods=SOME, recipe=TINY)


def test_a_row_for_every_run_step_task_and_matrix(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    out, tables = made
    rows, space = tables["where"], tables["space"]
    tasks, matrices = len(TINY.order), 7 * TINY.shape.layers
    assert len(rows) == len(SOME) * 2 * len(TINY.order) * tasks * matrices
    assert len(space) == len(SOME) * 2 * len(TINY.order) * tasks * len(SIGNALS)
    assert set(rows["role"]) == {"earlier", "arrived", "later"}
    for name, table in read_where(out)[1].items():
        pd.testing.assert_frame_equal(table, tables[name])


def test_the_splits_are_complete(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    """Σ over matrices against the difference of scores that the study's own bench measures."""
    out, _ = made
    for file in sorted((out / "cells").glob("seq-sft-0-*.json")):
        content = json.loads(file.read_bytes())
        bench = Bench(0, TINY, out / "trained")
        states = [{}, *bench.library.sequence(content["order"])]
        scored = [
            {row["task"]: row["value"] for row in bench.score(state, ["test"]) if row["metric"] == "nll"}
            for state in states
        ]
        for (step, task), own in pd.DataFrame(content["attribution"]).groupby(["step", "task"]):
            change = scored[int(str(step))][str(task)] - scored[int(str(step)) - 1][str(task)]
            assert own["change"].iloc[0] == pytest.approx(change, abs=1e-4)
            held = own["residual"].iloc[0] <= max(0.02 * abs(change), 1e-3) + 1e-6
            assert held or own["nodes"].iloc[0] == MOST_NODES
            assert abs(own["value"].sum() - change) <= own["residual"].iloc[0] + 1e-4


def test_it_goes_on_where_it_stopped(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    out, tables = made
    cells = sorted((out / "cells").glob("*.json"))
    times = {file: file.stat().st_mtime_ns for file in cells[1:]}
    before = cells[0].read_bytes()
    cells[0].unlink()
    again = where(out, orders=2, seeds=1, methods=SOME, recipe=TINY)
    assert cells[0].read_bytes() == before
    assert {file: file.stat().st_mtime_ns for file in cells[1:]} == times
    pd.testing.assert_frame_equal(again["where"], tables["where"])


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"method must be one of .* but joint, got 'joint'"):
        where(tmp_path / "out", methods=["joint"], recipe=TINY)
    with pytest.raises(InputError, match=r"where\.json: expected it where `lab where` wrote its tables"):
        read_where(tmp_path)


def test_markdown_of_a_study_and_of_nothing(made: tuple[Path, dict[str, pd.DataFrame]]) -> None:
    texts = where_sections(made[1])
    assert [line.split(" | ")[0].strip("| ") for line in texts["space"].splitlines()[2:]] == list(SIGNALS)
    shares = [float(part) for part in texts["places"].splitlines()[2].strip("| ").split(" | ")[1:]]
    layers = TINY.shape.layers
    assert sum(shares[:layers]) == pytest.approx(1, abs=0.01 * layers)
    assert sum(shares[layers:]) == pytest.approx(1, abs=0.04)
    assert where_sections({"space": pd.DataFrame(), "where": pd.DataFrame()}) == {}


def test_shipping_copies_tables_alone(made: tuple[Path, dict[str, pd.DataFrame]], tmp_path: Path) -> None:
    ship_where(made[0], tmp_path / "shipped")
    assert sorted(path.name for path in (tmp_path / "shipped").rglob("*")) == [
        *("space.parquet", "tables", "where.json", "where.parquet")
    ]
    assert read_where(tmp_path / "shipped")[0]["methods"] == list(SOME)


def test_the_shipped_splits_are_complete() -> None:
    info, tables = read_where()
    assert set(info["methods"]) == set(SYSTEMS)
    assert set(tables["where"]["method"]) == set(SYSTEMS)
    assert tables["where"]["value"].notna().all()
    sums = (
        tables["where"]
        .groupby(["method", "seed", "order", "step", "task"])
        .agg(value=("value", "sum"), change=("change", "first"), residual=("residual", "first"))
    )
    # float32 columns of values of about 1
    assert np.allclose((sums["value"] - sums["change"]).abs(), sums["residual"], atol=1e-5)
