"""The reader of the benchmark's tables says what is wrong with a file."""

from pathlib import Path

import pandas as pd
import pytest

from gcwm_viz.decide.benchmark.shipped import COLUMNS, read_results
from gcwm_viz.errors import InputError


def write(folder: Path) -> None:
    for name, columns in COLUMNS.items():
        table = pd.DataFrame({column: [1] for column in (*columns, "method", "setting")})
        table.to_csv(folder / f"{name}.csv", index=False)


def test_every_table_is_read_once(tmp_path: Path) -> None:
    write(tmp_path)
    tables = read_results(tmp_path)
    assert set(tables) == set(COLUMNS)
    assert read_results(tmp_path) is tables


def test_a_file_that_is_missing_empty_or_lacks_a_column_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "regret.csv"
    file.unlink()
    with pytest.raises(InputError, match=r"regret\.csv: expected a table .* found no file"):
        read_results(tmp_path)
    file.write_text("")
    with pytest.raises(InputError, match=r"regret\.csv: .* found no CSV"):
        read_results(tmp_path)
    file.write_text("policy,regret\n")
    with pytest.raises(InputError, match=r"regret\.csv: expected the column low, found policy, regret"):
        read_results(tmp_path)
