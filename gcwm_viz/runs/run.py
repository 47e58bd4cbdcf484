"""A run from inputs to tables: what the command line and the app start."""

import platform
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import is_remote
from gcwm_viz.checkpoints.space import check_space
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.engine import run_matrices, write_table, write_tables
from gcwm_viz.continual.estimate import stored_bytes
from gcwm_viz.continual.run_file import PROBE_DTYPES, InputEntry, ProbeEntry, RunFile
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.probes.evaluate import evaluate
from gcwm_viz.probes.harness import check_installed
from gcwm_viz.probes.preflight import preflight
from gcwm_viz.probes.tasks import has_probe_files, load_tasks, probes_fingerprint
from gcwm_viz.updates.chain import chain_note
from gcwm_viz.updates.outside import outside_share, share_notes
from gcwm_viz.updates.pairing import Plan, plan
from gcwm_viz.updates.source import joint_rank, state_ranks
from gcwm_viz.updates.sources import UpdateSource, open_update

Progress = Callable[[str, int, int, str], None]
"""Called with the phase (``matrices`` or ``probes``), items done, items in all, and the item just finished."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Where a run reads from. ``updates``: (name, folder) in order of arrival. ``states``: for a training pipeline,
    the folder or file of S_t of every step. ``probes``: folder of probe files. ``probe_dtype``: precision in which
    models are probed, one of :data:`~gcwm_viz.continual.run_file.PROBE_DTYPES`."""

    base: Path
    updates: Sequence[tuple[str, Path]]
    states: Sequence[Path] = ()
    probes: Path | None = None
    probe_dtype: str = PROBE_DTYPES[0]


@dataclass(frozen=True)
class OpenInputs:
    """The same, opened: headers read, nothing else."""

    base: CheckpointIndex
    sources: list[UpdateSource]
    states: list[UpdateSource] | None
    plan: Plan

    @property
    def ranks(self) -> list[int | None]:
        """Of each matrix of the run, the joint rank of its updates where all of them are adapters, else None."""
        return [joint_rank(key, self.sources) for key in self.plan.active]

    @property
    def state_ranks(self) -> list[list[int | None]] | None:
        """Of each matrix, the columns of every given state's factors, None where it is dense; None without states."""
        if not self.states:
            return None
        return [state_ranks(key, self.sources, self.states) for key in self.plan.active]


def open_inputs(inputs: Inputs) -> OpenInputs:
    """Reads headers and pairs everything; raises :class:`InputError` for whatever does not fit."""
    base = CheckpointIndex.open(inputs.base)
    sources = [open_update(name, path, base) for name, path in inputs.updates]
    paired = plan(base, sources)
    states = None
    if inputs.states:
        if len(inputs.states) != len(sources):
            raise InputError(
                f"expected one state for each of {len(sources)} updates, found {len(inputs.states)} states"
            )
        states = [open_update(f"state {step}", path, base) for step, path in enumerate(inputs.states, start=1)]
        plan(base, states)
    return OpenInputs(base, sources, states, paired)


def create_run(inputs: Inputs, out: Path, settings: RunSettings, name: str | None = None) -> RunStore:
    """A new run folder with its settings and input fingerprints. Nothing is computed yet."""
    opened = open_inputs(inputs)
    given = [folder for source in (*opened.sources, *(opened.states or [])) for folder in source.folders]
    for folder in (inputs.base, *given):
        if not is_remote(folder) and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{out}: lies inside the input {folder}, expected a folder outside every input")
    for path in (inputs.base, *(path for _, path in inputs.updates), *inputs.states, out):
        _printable(path)
    needed = stored_bytes(opened.plan.active, len(inputs.updates), settings, opened.ranks, opened.state_ranks)
    check_space(out, needed, "the run")
    # What is wrong with the probes is told now and not after the merge.
    probes = probe_entry(opened.base, inputs.probes, inputs.probe_dtype)
    return RunStore.create(
        out,
        RunFile(
            name=name or out.name,
            base=InputEntry(where=str(inputs.base.resolve()), fingerprint=opened.base.fingerprint()),
            updates=tuple(map(_entry, opened.sources)),
            states=tuple(map(_entry, opened.states or [])),
            probes=probes,
            matrices=tuple(opened.plan.active),
            settings=settings,
            notes=(*opened.plan.warnings, *opened.plan.notes),
            versions={"python": platform.python_version()}
            | {package: version(package) for package in ("torch", "transformers", "safetensors")},
        ),
    )


def continue_run(
    store: RunStore,
    on: torch.device | Engine,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    memory_budget: int | None = None,
    shares: dict[str, dict[str, float]] | None = None,
) -> None:
    """Do whatever the journal does not list: matrices, tables, probes.

    ``on``: an engine, or a device of this machine. ``workers``: processes at a time there, by default one a core, or
    one a GPU. The result depends on neither number nor engine.
    ``memory_budget``: bytes that the tensors of all workers may take; fewer workers and smaller tiles follow from it.
    ``shares``: ``outside_share`` of updates by name, filled with what is missing, for several runs on the same updates.

    Raises :class:`InputError` for changed inputs or a run that another process is writing.
    """
    engine = on if isinstance(on, Engine) else LocalEngine(on, workers)
    with store.lock():
        opened = begin(store, engine)
        with failure_in_journal(store):
            run_matrices([store], engine, _phase(progress, "matrices"), memory_budget, opened.ranks)
            write_tables(store)
            # A run over given states is a chain by its nature; a sweep asks for each matrix once.
            with one_thread():  # workers are forked after it
                chain = chain_note(opened.base, opened.sources) if shares is None and not opened.states else ""
            shares = {} if shares is None else shares
            missing = [name for name in store.updates if name not in shares]
            # Each reads an update whole, which is as much as all the matrices: work for as many as there are.
            shares.update(engine.unordered(partial(_outside_share, store.path.absolute()), missing))
            write_table(store.path, "updates", _updates_table(opened, shares, chain))
            store.log("matrices-done", done=len(store.keys), total=len(store.keys))
            if store.file.probes.where:
                evaluate(store, engine, _phase(progress, "probes"), memory_budget)
            store.log("complete", done=len(store.keys), total=len(store.keys))


def begin(store: RunStore, engine: Engine) -> OpenInputs:
    """Check and open what a run needs to go on, and say in its journal that it does; the caller holds the lock."""
    opened = reopen_inputs(store)
    store.check_settings()
    store.clear_cancel()
    damaged = store.discard_damaged()
    again = {"damaged": damaged} if damaged else {}
    counts = {"done": len(store.finished()), "total": len(store.keys)}
    store.log("start", device=engine.device, **counts, settings=store.settings.to_dict(), **again)
    return opened


def reopen_inputs(store: RunStore, *, probes: bool = True) -> OpenInputs:
    """Inputs of an existing run, their fingerprints compared with those it started from; ``probes``: theirs too."""
    file = store.file
    updates = [(update.name, update.path) for update in file.updates]
    opened = open_inputs(Inputs(base=file.base.path, updates=updates, states=[state.path for state in file.states]))
    if opened.base.fingerprint() != file.base.fingerprint:
        raise InputError(f"{file.base.where}: the base has changed since run {store.path} started")
    described = [*file.updates, *file.states]
    for source, entry in zip([*opened.sources, *(opened.states or [])], described, strict=True):
        if source.fingerprint() != entry.fingerprint:
            raise InputError(f"{entry.where}: {entry.name} has changed since run {store.path} started")
    if not probes or file.probes.where is None:
        return opened
    folder = file.probes.path
    expected = file.probes.fingerprint  # absent in runs of an earlier version
    if expected and probes_fingerprint(folder) != expected:
        raise InputError(
            f"{folder}: the probes have changed since run {store.path} started; the command score takes others"
        )
    if has_probe_files(folder)[0]:
        check_installed(load_tasks(folder))
    return opened


def probe_entry(base: CheckpointIndex, probes: Path | None, dtype: str) -> ProbeEntry:
    """What run.json says of the probes. Raises :class:`InputError` as :func:`preflight` does."""
    if probes is None:
        return ProbeEntry(dtype=dtype)
    memory = preflight(base, probes, dtype).memory_bytes
    return ProbeEntry(where=_printable(probes), fingerprint=probes_fingerprint(probes), dtype=dtype, memory=memory)


def _printable(path: Path) -> str:
    if not str(path.resolve()).isprintable():
        raise InputError(f"{str(path)!r}: expected a path of printable characters, it is written into run.json")
    return str(path.resolve())


def _updates_table(opened: OpenInputs, shares: dict[str, dict[str, float]], chain: str) -> pd.DataFrame:
    """``chain``: a remark on the updates together, which the last of them bears."""
    rows = []
    for index, (source, row) in enumerate(zip(opened.sources, opened.plan.coverage, strict=True), start=1):
        share = shares[source.name]
        notes = [note for note in (*opened.plan.warnings, *opened.plan.notes) if note.startswith(f"{source.name}: ")]
        notes += [*share_notes(share), *([chain] if chain and index == len(opened.sources) else [])]
        rows.append(
            {
                "index": index,
                "update": source.name,
                "path": str(source.path),
                "kind": source.kind,
                "matrices": row["matrices"],
                "norm": share["total_norm"],
                "target_norm": share["target_norm"],
                "outside_share": share["outside_share"],
                "rounding": share["rounding"],
                "note": "; ".join(notes),
            }
        )
    return pd.DataFrame(rows)


def _outside_share(run: Path, worker: Worker, name: str) -> dict[str, float]:
    store = RunStore.open(run)
    base = CheckpointIndex.open(store.file.base.path)
    path = next(update.path for update in store.file.updates if update.name == name)
    return outside_share(base, open_update(name, path, base), store.keys)


def _entry(source: UpdateSource) -> InputEntry:
    where = str(source.path.resolve())
    return InputEntry(name=source.name, where=where, kind=source.kind, fingerprint=source.fingerprint())


def _phase(progress: Progress | None, phase: str) -> Callable[[int, int, str], None] | None:
    if progress is None:
        return None
    return lambda done, total, label: progress(phase, done, total, label)


@contextmanager
def failure_in_journal(store: RunStore):  # type: ignore[no-untyped-def]
    """Whoever watches the journal learns why a run stopped."""
    try:
        yield
    except BaseException as error:
        with suppress(InputError):  # on a full disk the journal cannot be written either; the error itself matters
            store.log("error", message=str(error) or type(error).__name__)
        raise
