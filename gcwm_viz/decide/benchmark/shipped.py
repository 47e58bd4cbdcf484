"""The benchmark's tables that ship with the package; :mod:`gcwm_viz.decide.benchmark.report` makes them."""

from functools import lru_cache
from pathlib import Path

import pandas as pd

from gcwm_viz.decide.forecast import SHIPPED
from gcwm_viz.errors import InputError

COLUMNS = {
    "validation": ("predictor", "n", "harmful", "rho", "rho_low", "rho_high", "partial", "auc", "auc_low", "auc_high"),
    "regret": ("policy", "regret", "low", "high", "share", "pools", "cost"),
    "reliability": ("needs", "forecast", "observed", "n", "bin"),
    "verdicts": ("needs", "choice", "right", "n"),
    "settled": ("pools", "scored", "difference", "low", "high"),
    "coverage": ("needs", "covered", "width", "error", "bias", "n"),
}
"""Tables and their columns; each also has ``method`` and ``setting``."""
_ALL = ("method", "setting")


@lru_cache(maxsize=4)
def read_results(folder: Path = SHIPPED.parent) -> dict[str, pd.DataFrame]:
    """Every table by name, read once; do not change them.

    Raises :class:`InputError` for a file that is missing, is no CSV, or lacks a column.
    """
    return {name: _read(folder / f"{name}.csv", (*columns, *_ALL)) for name, columns in COLUMNS.items()}


def _read(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_csv(file)
    except FileNotFoundError:
        raise InputError(f"{file}: expected a table of the decision benchmark, found no file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: expected a table of the decision benchmark, found no CSV ({error})") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"{file}: expected the column {missing[0]}, found {', '.join(map(str, table.columns))}")
    return table
