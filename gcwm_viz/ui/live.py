"""The model of a run in the app's own process, for pages that answer within seconds; one at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.engines.memory import available_memory
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.threads import threads_of
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.roots import within

if TYPE_CHECKING:
    from gcwm_viz.probes.live import LiveModel

_turn = threading.RLock()
_held: list[tuple[str, tuple[int, ...]]] = []
"""The run whose model was loaded last."""


def obstacle(run: Run) -> str:
    """Why the app does not load the run's model, or an empty text, also where it is loaded already.

    Raises :class:`~gcwm_viz.errors.InputError` for a base that is not there or lies outside the app's folders.
    """
    file = run.store.file
    if "://" in file.base.where:
        return "its base lies on another machine, and transformers loads it from a folder of this one."
    if key_of(run) in _held:
        return ""
    need, free = file.probes.memory, available_memory()
    if need is None:  # a run without probes
        index = CheckpointIndex.open(within(file.base.path))
        largest = max(info.parameters for info in index.tensors.values())
        # The weights, and the largest matrix while it is set, in float32.
        need = index.parameters * run.store.probe_dtype.itemsize + 3 * 4 * largest
    if free is not None and need > free:
        return f"this model needs {need / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free."
    return ""


def unreadable(run: Run) -> str:
    """Why what reads the run's inputs would fail at once, or an empty text."""
    try:
        for entry in (run.store.file.base, *run.store.file.updates):
            path = within(entry.path)  # a run folder from elsewhere may name any path
            if "://" not in entry.where and "+" not in entry.where and not path.exists():
                return f"{entry.path} is not there any more"
    except InputError as error:
        return str(error)
    return ""


def missing(run: Run) -> str:
    """Why the app cannot hold the run's model, or an empty text: inputs that are gone, or :func:`obstacle`."""
    try:
        return unreadable(run) or obstacle(run)
    except InputError as error:
        return str(error)


@contextmanager
def live_model(run: Run) -> Iterator["LiveModel"]:
    """The run's model, loaded on first use; other pages and windows wait while this block holds it.

    Raises :class:`~gcwm_viz.errors.InputError` where it cannot be loaded, its inputs have changed, or they lie outside
    the app's folders.
    """
    file = run.store.file
    for entry in (file.base, *file.updates, *file.states):
        within(entry.path)  # a run folder from elsewhere may name any path
    key = key_of(run)
    with _turn:  # whichever run it is: two models may be more than the memory holds
        if key not in _held:
            _held.clear()
            _load.clear()  # the model of another run goes before this one comes
        model = _load(*key)
        _held[:] = [key]
        with threads_of(sum(parameter.numel() for parameter in model.model.parameters())):
            yield model


def key_of(run: Run) -> tuple[str, tuple[int, ...]]:
    """Another content of the folder is another model."""
    return str(run.path), tuple((run.path / name).stat().st_mtime_ns for name in ("run.json", "journal.jsonl"))


@st.cache_resource(max_entries=1, show_spinner="Loading the model, which takes some seconds once")
def _load(path: str, stamp: tuple[int, ...]) -> "LiveModel":
    del stamp
    import torch

    from gcwm_viz.continual.store import RunStore
    from gcwm_viz.probes.live import LiveModel
    from gcwm_viz.runs.inputs import reopen_inputs

    store = RunStore.open(Path(path))
    reopen_inputs(store, probes=False)  # the states of another base are not this run's
    return LiveModel(store, torch.device("cpu"))
