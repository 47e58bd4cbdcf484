"""Probes for a run that is merged already: given for the first time, mended, or others in their place."""

import dataclasses
import shutil
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
from gcwm_viz.studies import leave_one_out


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
    """Score every checkpoint of a merged run by ``probes``, by default its own; goes on where it was interrupted.

    ``dtype``: precision of the models that are scored, by default the run's. ``replace``: give up the scores
    that are there, of whatever probes and precision, and what leave-one-out measured with them.

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
        store.check_settings()  # all that can be refused is, before scores are given up
        if replace or _others(store, entry):
            _give_up_scores(store, replace)
        write_json(run / "run.json", dataclasses.replace(store.file, probes=entry).to_json())
        store = RunStore.open(run)
        begin(store, engine)
        with store.failure_in_journal():
            evaluate(store, engine, in_phase(progress, "probes"), memory_budget)
            store.log("complete", done=len(store.keys), total=len(store.keys))
    return store


def _others(store: RunStore, entry: ProbeEntry) -> bool:
    """Whether the run's scores are of other probes, or of another precision; a run of an earlier version, which names
    neither, was scored in the default one."""
    known = store.file.probes
    return (known.fingerprint or entry.fingerprint) != entry.fingerprint or known.dtype != entry.dtype


def _give_up_scores(store: RunStore, replace: bool) -> None:
    """Scores go before run.json names other probes: a crash in between leaves a run without scores, never a mixture."""
    measured = store.path / leave_one_out.FOLDER
    if not has_scores(store) and not measured.exists():
        return
    if not replace:
        raise InputError(
            f"run {store.path} holds scores of {store.file.probes.where or 'other probes'} in "
            f"{store.file.probes.dtype}, expected --replace to give them up for these"
        )
    if measured.is_dir():
        with WorkFolder(measured).lock():  # a leave-one-out at work is not to be deleted
            shutil.rmtree(measured, ignore_errors=True)
    discard_scores(store)
