"""Where runs live, which there are, and their tables, cached until the files change."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import streamlit as st

from gcwm_viz.tables import Run, open_run

DEFAULT_ROOT = "runs"
DEFAULT_RUN = "lab"


def run_root() -> Path:
    """The folder of runs: ``streamlit run app.py -- --run-root DIR``, by default ``runs`` in the current folder."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--run-root", default=DEFAULT_ROOT)
    known, _ = parser.parse_known_args(sys.argv[1:])
    return Path(known.run_root).resolve()


def run_names(root: Path) -> list[str]:
    """Names of the run folders directly below ``root``, the default lab run first, then by name."""
    if not root.is_dir():
        return []
    names = sorted(child.name for child in root.iterdir() if (child / "run.json").is_file())
    return sorted(names, key=lambda name: name != DEFAULT_RUN)


def load_run(path: Path) -> Run:
    """The run at ``path``, read again only when a file of it has changed. Treat its tables as read-only.

    Raises :class:`gcwm_viz.errors.InputError` for a folder that is no readable run.
    """
    return _load(str(path), _stamp(path))


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    files = [path / "run.json", path / "journal.jsonl", *sorted((path / "tables").glob("*.parquet"))]
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())


@st.cache_resource(max_entries=6, show_spinner="Reading the run")
def _load(path: str, stamp: tuple[tuple[str, int, int], ...]) -> Run:
    return open_run(Path(path))
