"""The tables of a run as a folder that ``datasets.load_dataset`` reads: a configuration for each table."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from gcwm_viz.checkpoints.atomic import atomic_folder, write_bytes
from gcwm_viz.errors import InputError
from gcwm_viz.export.card import CARD, settings_block
from gcwm_viz.runs.tables import Run, columns


def export_tables(run: Run, out: Path) -> list[str]:
    """Write every table of a finished run that has rows as ``data/NAME.parquet``, and a card with the meaning of every
    column; returns the tables' names. Inputs are named without their folders' paths.

    Raises :class:`InputError` for an unfinished run and where ``out`` exists.
    """
    run.store.check_finished()
    if out.exists() or not out.parent.is_dir():
        raise InputError(f"{out}: expected a new folder in an existing one")
    names = [name for name in run.tables if len(run.tables[name])]
    with atomic_folder(out) as partial:
        (partial / "data").mkdir()
        for name in names:
            table = pa.Table.from_pandas(_shareable(run.tables[name]), preserve_index=False)
            pq.write_table(table.replace_schema_metadata(), partial / _file(name))
        write_bytes(partial / CARD, _card(run, names).encode())
    return names


def _file(name: str) -> str:
    return f"data/{name}.parquet"


def _shareable(frame: pd.DataFrame) -> pd.DataFrame:
    """The last part of a path, as the report names an input."""
    return frame.assign(path=[Path(path).name for path in frame["path"]]) if "path" in frame else frame


def _card(run: Run, names: list[str]) -> str:
    configs = [{"config_name": name, "data_files": _file(name)} for name in names]
    front = {"configs": configs, "tags": ["merge", "gcwm", "forgetting"]}
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n# A merge, in tables\n\n"
        f"Results of a run of gcwm_viz over {run.steps} updates (arXiv 2605.09608). Undefined values are NaN or null; "
        "the column `reason` says why.\n\n"
        f"    datasets.load_dataset(FOLDER, {names[0]!r})\n"
    ]
    for name in names:
        rows = "".join(f"| `{column}` | {meaning} |\n" for column, meaning in _meanings(name))
        parts.append(f"\n## {name}\n\n| column | meaning |\n|---|---|\n{rows}")
    return "".join([*parts, f"\n## Inputs and settings\n\n{settings_block(run.store, run.steps, paths=False)}"])


def _meanings(name: str) -> list[tuple[str, str]]:
    return [(column, meaning.replace("|", "\\|")) for column, meaning in columns(name).items()]
