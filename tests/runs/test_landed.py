"""What has landed of a run that is not finished: the rows that its tables will have."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from gcwm_viz.continual.rows import TABLES
from gcwm_viz.runs.tables import open_run
from tests.factories_lab import mergeable
from tests.factories_unfinished import unfinished


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mergeable(tmp_path_factory.mktemp("runs"), examples=2).path


def test_landed_rows_are_those_of_the_finished_tables(run: Path, tmp_path: Path) -> None:
    part = unfinished(run, tmp_path / "part", matrices=5, models=3)
    whole, landed = open_run(run).tables, open_run(part, landed=True).tables
    names = list(dict.fromkeys(landed["matrices"]["matrix"]))
    assert len(names) == 5
    for name in TABLES:
        expected = whole[name][whole[name]["matrix"].isin(names)].reset_index(drop=True)
        pd.testing.assert_frame_equal(landed[name], expected)
    assert len(landed["steps"]) == len(whole["steps"])
    models = landed["scores"].drop_duplicates(["model", "step"])
    assert len(models) == 3
    kept = whole["scores"].merge(models[["model", "step"]], on=["model", "step"])
    pd.testing.assert_frame_equal(landed["scores"], kept)


def test_commands_see_written_tables_alone(run: Path, tmp_path: Path) -> None:
    part = unfinished(run, tmp_path / "part", matrices=5, models=0)
    assert open_run(part).tables["matrices"].empty
    assert not open_run(part, landed=True).tables["matrices"].empty


def test_nothing_has_landed_before_the_first_matrix(run: Path, tmp_path: Path) -> None:
    tables = open_run(unfinished(run, tmp_path / "part", matrices=0, models=0), landed=True).tables
    assert all(table.empty for table in tables.values())


def test_the_tables_of_a_finished_run_are_read_as_they_were_written(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "tables" / "scores.parquet").unlink()
    assert open_run(copy, landed=True).tables["scores"].empty
    assert json.loads((copy / "journal.jsonl").read_text().splitlines()[-1])["event"] == "complete"
