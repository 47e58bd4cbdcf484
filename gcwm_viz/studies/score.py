"""Scoring of a run that is merged already, by its own probes or by others."""

import dataclasses
import shutil
from contextlib import ExitStack
from pathlib import Path

from gcwm_viz.checkpoints.atomic import write_json
from gcwm_viz.continual.folder import WorkFolder
from gcwm_viz.continual.run_file import ProbeEntry
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.evaluate import evaluate
from gcwm_viz.probes.stored import discard_scores, has_scores
from gcwm_viz.runs.inputs import probe_entry, reopen_inputs
from gcwm_viz.runs.run import Progress, begin, in_phase
from gcwm_viz.runs.tables import LATER


def score(
    run: Path,
    engine: Engine,
    probes: Path | None = None,
    dtype: str | None = None,
    *,
    replace: bool = False,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> RunStore:
    """Score every checkpoint of a merged run by ``probes``, by default its own; resumes an interrupted call.

    ``dtype``: precision of the models that are scored, by default the run's. ``replace``: delete existing scores of
    any probes and precision, and the results of later work that belong to them.

    Raises :class:`InputError` for a run that is not merged yet or has no probes, for scores that would be lost without
    ``replace``, for changed inputs, and as :func:`~gcwm_viz.probes.preflight.preflight` does.
    """
    store = RunStore.open(run)
    with store.lock():
        unfinished = len(store.keys) - len(store.finished())
        if unfinished:
            raise InputError(f"run {run} is not merged yet: {unfinished} matrices are missing; use resume first")
        if probes is None and store.file.probes.where is None:
            raise InputError(f"run {run} was started without probes, expected a folder of them")
        base = reopen_inputs(store, probes=False).base
        entry = probe_entry(base, probes or store.file.probes.path, dtype or store.file.probes.dtype)
        store.check_settings()  # everything that can fail comes before scores are deleted
        if replace or _differ(store, entry):
            _delete_scores(store, replace)
        write_json(run / "run.json", dataclasses.replace(store.file, probes=entry).to_json())
        store = RunStore.open(run)
        begin(store, engine)
        with store.failure_in_journal():
            evaluate(store, engine, in_phase(progress, "probes"), memory_budget)
            store.log("complete", done=len(store.keys), total=len(store.keys))
    return store


def _differ(store: RunStore, entry: ProbeEntry) -> bool:
    """Whether the run's scores are of other probes or another precision than ``entry``; a run of an earlier version
    names neither, and its precision is the default."""
    stored = store.file.probes
    return (stored.fingerprint or entry.fingerprint) != entry.fingerprint or stored.dtype != entry.dtype


def _delete_scores(store: RunStore, replace: bool) -> None:
    """Delete scores before run.json names other probes, so that a crash in between leaves no mixture."""
    later = [store.path / name for name in LATER]
    if not has_scores(store) and not any(folder.exists() for folder in later):
        return
    if not replace:
        raise InputError(
            f"run {store.path} holds scores of {store.file.probes.where or 'other probes'} in "
            f"{store.file.probes.dtype}, expected --replace to give them up for these"
        )
    with ExitStack() as locks:
        there = [folder for folder in later if folder.is_dir()]
        for folder in there:
            locks.enter_context(WorkFolder(folder).lock())  # not while another process writes there
        for folder in there:
            shutil.rmtree(folder, ignore_errors=True)
        discard_scores(store)
