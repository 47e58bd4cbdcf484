"""The tables of runs, cached until the files change."""

from pathlib import Path

import streamlit as st

from gcwm_viz.runs.tables import LATER, Run, open_run
from gcwm_viz.ui.roots import within


def load_run(path: Path) -> Run:
    """The run at ``path``, read again only when a file of it has changed. Treat its tables as read-only.

    Raises :class:`InputError` for a folder that is no readable run or lies outside the app's folders.
    """
    path = within(path)
    return _load(str(path), stamp(path))


def stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever more of the run is there."""
    tables = [table for folder in ("", *LATER) for table in sorted((path / folder / "tables").glob("*.parquet"))]
    files = [path / "run.json", path / "journal.jsonl", *tables]
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())


@st.cache_resource(max_entries=6, show_spinner="Reading the run")
def _load(path: str, stamp: tuple[tuple[str, int, int], ...]) -> Run:
    return open_run(Path(path), landed=True)
