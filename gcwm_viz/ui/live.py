"""The model of a run in the app's own process, for pages that answer within seconds; one at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from gcwm_viz.engines.memory import available_memory
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.roots import within

if TYPE_CHECKING:
    from gcwm_viz.probes.live import LiveModel

SMALL = 20_000_000
"""Parameters below which a model computes in one thread: on busy cores the threads of one product wait for each other.
The lab's, set to eight states, answers in 0.3 s with one thread; with two it took 0.6 to 14 s."""


def obstacle(run: Run) -> str:
    """Why the app does not load the run's model, or an empty text."""
    need, free = run.store.file.probes.memory or 0, available_memory()
    if free is not None and need > free:
        return f"this model needs {need / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free."
    return ""


@contextmanager
def live_model(run: Run) -> Iterator["LiveModel"]:
    """The run's model, loaded on first use; other pages and windows wait while this block holds it.

    Raises :class:`~gcwm_viz.errors.InputError` where it cannot be loaded, or lies outside the app's folders.
    """
    file = run.store.file
    for entry in (file.base, *file.updates):
        within(entry.path)  # a run folder from elsewhere may name any path
    stamp = tuple((run.path / name).stat().st_mtime_ns for name in ("run.json", "journal.jsonl"))
    model, lock = _load(str(run.path), stamp)
    small = sum(parameter.numel() for parameter in model.model.parameters()) < SMALL
    with lock, one_thread() if small else nullcontext():
        yield model


@st.cache_resource(max_entries=1, show_spinner="Loading the model, which takes some seconds once")
def _load(path: str, stamp: tuple[int, ...]) -> tuple["LiveModel", threading.Lock]:
    del stamp  # another content of the folder is another model
    import torch

    from gcwm_viz.probes.live import LiveModel

    return LiveModel.open(Path(path), torch.device("cpu")), threading.Lock()
