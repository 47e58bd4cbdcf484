"""Names of the runs, and their tables, cached until the files change."""

import os
from pathlib import Path

import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.runs.tables import LATER, Run, open_run
from gcwm_viz.ui.roots import within

DEFAULT_RUN = "lab"


def run_names(root: Path) -> list[str]:
    """Names of the run folders directly below ``root``, the default lab run first, then by name."""
    try:
        children = list(root.iterdir()) if root.is_dir() else []
    except OSError as error:
        raise InputError(f"{root}: cannot list the runs ({error.strerror or error})") from None
    names = sorted(child.name for child in children if child.name.isprintable() and os.path.isfile(child / "run.json"))
    return sorted(names, key=lambda name: name != DEFAULT_RUN)


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
