"""A run's tables as a folder that the hub's datasets library reads."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from gcwm_viz.cli import main
from gcwm_viz.errors import InputError
from gcwm_viz.export.dataset import export_tables
from gcwm_viz.runs.tables import columns, open_run
from tests import factories_lab
from tests.factories_runs import write_run


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A real run, and its tables."""
    root = tmp_path_factory.mktemp("runs")
    run = factories_lab.merged(root).path
    assert main(["export", str(run), "--tables", "--out", str(root / "tables")]) == 0
    return run, root / "tables"


def test_a_table_is_a_configuration_with_the_run_s_rows(exported: tuple[Path, Path]) -> None:
    run, folder = exported
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    tables = open_run(run).tables
    assert [config["config_name"] for config in front["configs"]] == [name for name in tables if len(tables[name])]
    for config in front["configs"]:
        read = pd.read_parquet(folder / config["data_files"])
        expected = tables[config["config_name"]]
        same = [column for column in expected if column != "path"]
        pd.testing.assert_frame_equal(read[same], expected[same].reset_index(drop=True))
        assert list(read.columns) == list(columns(config["config_name"]))


def test_the_card_says_what_a_column_means(exported: tuple[Path, Path]) -> None:
    card = (exported[1] / "README.md").read_text()
    assert columns("matrices")["active_conflict"] in card
    assert "| `active_conflict` |" in card


def test_it_names_no_path_of_this_machine(exported: tuple[Path, Path]) -> None:
    run, folder = exported
    inputs = [entry.where for entry in open_run(run).store.file.updates]
    for file in filter(Path.is_file, folder.rglob("*")):
        content = file.read_bytes()
        assert not [where for where in inputs if where.encode() in content], file.name


def test_an_unfinished_run_and_a_folder_that_is_there_are_refused(
    exported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="expected a new folder"):
        export_tables(open_run(exported[0]), exported[1])
    write_run(tmp_path, "empty")
    with pytest.raises(InputError):
        export_tables(open_run(tmp_path / "empty"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main(["export", str(exported[0]), "--tables", "--mergekit-yaml", "--out", str(tmp_path / "out")]) == 2
    assert "one form at a time" in capsys.readouterr().err
