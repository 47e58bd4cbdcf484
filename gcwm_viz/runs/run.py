"""A run from inputs to tables: what the command line and the app start."""

import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.space import check_space
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.engine import run_matrices, write_table, write_tables
from gcwm_viz.continual.estimate import stored_bytes
from gcwm_viz.continual.run_file import InputEntry, RunFile
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.threads import one_thread
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.plugins.record import check_same, entries_for
from gcwm_viz.probes.evaluate import evaluate
from gcwm_viz.runs.inputs import Inputs, OpenInputs, check_outside, open_inputs, printable, probe_entry, reopen_inputs
from gcwm_viz.updates.chain import chain_note
from gcwm_viz.updates.outside import outside_share, share_notes
from gcwm_viz.updates.source import UpdateSource

Progress = Callable[[str, int, int, str], None]
"""Called with the phase (``matrices`` or ``probes``), items done, items in all, and the item just finished."""
Shares = dict[str, tuple[dict[str, float], dict[str, float]]]
"""By update: ``outside_share``, and its rounding by matrix."""


def in_phase(progress: Progress | None, phase: str) -> Callable[[int, int, str], None] | None:
    """``progress`` with its phase fixed, for work of one phase."""
    return None if progress is None else partial(progress, phase)


def create_run(
    inputs: Inputs, out: Path, settings: RunSettings, name: str | None = None, *, choose_eta: bool = False
) -> RunStore:
    """A new run folder with its settings and input fingerprints. Nothing is computed yet.

    ``choose_eta``: η is to be chosen on the development probes, by :func:`gcwm_viz.studies.eta.choose_eta`, before the
    run is computed. Raises :class:`InputError` where that is not possible.
    """
    if choose_eta and (obstacle := eta_obstacle(inputs, settings)):
        raise InputError(f"η cannot be chosen on the development probes: {obstacle}; expected --eta with a number")
    if inputs.states and settings.continual.outside != "keep":
        raise InputError(
            "states of a training pipeline are described whole, not merged: expected outside=keep beside them, found "
            f"outside={settings.continual.outside}"
        )
    opened = open_inputs(inputs)
    check_outside(out, opened)
    for path in (inputs.base, *(path for _, path in inputs.updates), *inputs.states, out):
        printable(path)
    needed = stored_bytes(opened.plan.active, len(inputs.updates), settings, opened.ranks, opened.state_ranks)
    check_space(out, needed, "the run")
    # Probes that cannot be scored fail here, not after the merge.
    probes = probe_entry(opened.base, inputs.probes, inputs.probe_dtype, checked=inputs.probes_checked)
    return RunStore.create(
        out,
        RunFile(
            name=name or out.name,
            base=InputEntry(where=str(inputs.base.resolve()), fingerprint=opened.base.fingerprint()),
            updates=tuple(map(_entry, opened.sources)),
            states=tuple(map(_entry, opened.states or [])),
            probes=probes,
            choice=inputs.choice,
            matrices=tuple(opened.plan.active),
            settings=settings,
            eta_tried=() if choose_eta else None,
            notes=(*opened.plan.warnings, *opened.plan.notes),
            plugins=entries_for(settings.method),
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
    shares: Shares | None = None,
) -> None:
    """Compute what the journal does not list: matrices, tables, probes.

    ``on``: an engine, or a device of this machine. ``workers``: processes at a time there, by default one a core, or
    one a GPU. The result does not depend on their number or the engine.
    ``memory_budget``: bytes for the tensors of all workers, which limits their number and the size of tiles.
    ``shares``: by update, extended by those that are missing; shared by runs on the same updates.

    Raises :class:`InputError` for changed inputs or a run that another process is writing.
    """
    engine = on if isinstance(on, Engine) else LocalEngine(on, workers)
    with store.lock():
        opened = begin(store, engine)
        with store.failure_in_journal():
            run_matrices([store], engine, in_phase(progress, "matrices"), memory_budget, opened.ranks)
            write_tables(store)
            # Given states are a chain by definition, and a sweep reads each matrix only once.
            with one_thread():  # workers are forked afterwards
                chain = chain_note(opened.base, opened.sources) if shares is None and not opened.states else ""
            shares = {} if shares is None else shares
            missing = [name for name in store.updates if name not in shares]
            # Each task reads a whole update, as much as all its matrices: hence the engine.
            shares.update(engine.unordered(WithPlugins(partial(_outside_share, store.path.absolute())), missing))
            write_table(store.path, "updates", _updates_table(opened, shares, chain, store.settings.continual.outside))
            write_table(store.path, "rounding", _rounding_table(store, shares))
            store.log("matrices-done", done=len(store.keys), total=len(store.keys))
            if store.file.probes.where:
                evaluate(store, engine, in_phase(progress, "probes"), memory_budget)
            store.log("complete", done=len(store.keys), total=len(store.keys))


def eta_obstacle(inputs: Inputs, settings: RunSettings) -> str:
    """Why η cannot be chosen on the development probes; empty where it can."""
    if inputs.states:
        return "states of a training pipeline are given, so nothing is merged"
    if inputs.probes is None:
        return "there are no probes"
    if next((inputs.probes / "dev").glob("*.jsonl"), None) is None:
        return f"{inputs.probes} has no dev/NAME.jsonl"
    return "" if settings.continual.decay == 1.0 else "η decays from step to step"


def begin(store: RunStore, engine: Engine) -> OpenInputs:
    """Check and open a run's inputs and log its start in the journal; the caller holds the lock."""
    if store.file.lacks_eta:
        raise InputError(f"run {store.path} has not chosen its η yet, expected `gcwm-viz resume {store.path}`")
    if len(store.finished()) < len(store.keys):
        check_same(store.settings.method, store.file.plugins, f"run {store.path}")
    opened = reopen_inputs(store)
    store.check_settings()
    store.clear_cancel()
    damaged = store.discard_damaged()
    recomputed = {"damaged": damaged} if damaged else {}
    counts = {"done": len(store.finished()), "total": len(store.keys)}
    store.log("start", device=engine.device, **counts, settings=store.settings.to_dict(), **recomputed)
    return opened


def _updates_table(opened: OpenInputs, shares: Shares, chain: str, outside: str) -> pd.DataFrame:
    """``chain``: a remark on all updates together, noted with the last of them."""
    rows = []
    for index, (source, row) in enumerate(zip(opened.sources, opened.plan.coverage, strict=True), start=1):
        share, _ = shares[source.name]
        notes = [note for note in (*opened.plan.warnings, *opened.plan.notes) if note.startswith(f"{source.name}: ")]
        notes += [*share_notes(share, outside), *([chain] if chain and index == len(opened.sources) else [])]
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


def _rounding_table(store: RunStore, shares: Shares) -> pd.DataFrame:
    rows = [
        {"step": step, "update": name, "matrix": key.name, "layer": key.layer, "family": key.family}
        | {"rounding": shares[name][1][key.name]}
        for step, name in enumerate(store.updates, start=1)
        for key in store.keys
        if key.name in shares[name][1]
    ]
    return pd.DataFrame(rows, columns=["step", "update", "matrix", "layer", "family", "rounding"])


def _outside_share(run: Path, worker: Worker, name: str) -> tuple[dict[str, float], dict[str, float]]:
    store = RunStore.open(run)
    base = CheckpointIndex.open(store.file.base.path)
    entry = next(update for update in store.file.updates if update.name == name)
    rounding: dict[str, float] = {}
    return outside_share(base, entry.open(base), store.keys, rounding), rounding


def _entry(source: UpdateSource) -> InputEntry:
    where = str(source.path.resolve())
    return InputEntry(
        name=source.name,
        where=where,
        kind=source.kind,
        fingerprint=source.fingerprint(),
        strength=source.strength,
    )
