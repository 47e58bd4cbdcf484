"""Inputs of a run: opened for a new run, reopened for one that is resumed, and described for run.json."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import is_remote
from gcwm_viz.continual.run_file import PROBE_DTYPES, ProbeEntry, RunFile
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.probes.harness import check_installed
from gcwm_viz.probes.preflight import preflight
from gcwm_viz.probes.tasks import has_probe_files, load_tasks, probes_fingerprint
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.pairing import Plan, plan
from gcwm_viz.updates.source import UpdateSource, joint_rank, state_ranks
from gcwm_viz.updates.sources import open_update
from gcwm_viz.updates.strength import WHOLE


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Paths that a run reads. ``updates``: (name, folder) in order of arrival. ``strengths``: by update, what its Δ is
    multiplied by before anything else, in (0, 10]; 1 for those that are absent. ``choice``: which matrices are targets,
    by default those of the decoder blocks. ``states``: for a training pipeline,
    the folder or file of S_t of every step. ``probes``: folder of probe files. ``probe_dtype``: precision in which
    models are probed, one of :data:`~gcwm_viz.continual.run_file.PROBE_DTYPES`. ``probes_checked``: they are known to
    fit the base, and the model to be small: neither is checked before the merge, which takes seconds of imports."""

    base: Path
    updates: Sequence[tuple[str, Path]]
    strengths: Mapping[str, float] = field(default_factory=dict)
    choice: Choice = field(default_factory=Choice)
    states: Sequence[Path] = ()
    probes: Path | None = None
    probe_dtype: str = PROBE_DTYPES[0]
    probes_checked: bool = False


@dataclass(frozen=True)
class OpenInputs:
    """The inputs with their headers read, no weights."""

    base: CheckpointIndex
    sources: list[UpdateSource]
    states: list[UpdateSource] | None
    plan: Plan

    @property
    def ranks(self) -> list[int | None]:
        """Joint rank of the updates of each matrix where all of them are adapters, else None."""
        return [joint_rank(key, self.sources) for key in self.plan.active]

    @property
    def state_ranks(self) -> list[list[int | None]] | None:
        """Columns of the factors of every given state by matrix, None where it is dense; None without states."""
        if not self.states:
            return None
        return [state_ranks(key, self.sources, self.states) for key in self.plan.active]


def open_inputs(inputs: Inputs) -> OpenInputs:
    """Read headers and pair updates with the base; raises :class:`InputError` for what does not fit."""
    base = CheckpointIndex.open(inputs.base)
    names = [name for name, _ in inputs.updates]
    for name in inputs.strengths:
        if name not in names:
            listed = ", ".join(names[:6]) + ", …" * (len(names) > 6)
            raise InputError(f"a strength is given for {name[:100]!r}, expected one of the updates {listed}")
    sources = [open_update(name, path, base, inputs.strengths.get(name, WHOLE)) for name, path in inputs.updates]
    paired = plan(base, sources, inputs.choice)
    states = None
    if inputs.states:
        if len(inputs.states) != len(sources):
            raise InputError(
                f"expected one state for each of {len(sources)} updates, found {len(inputs.states)} states"
            )
        if any(source.strength != WHOLE for source in sources):
            raise InputError(
                "states of a training pipeline are described, not merged: expected no strength beside them"
            )
        states = [open_update(f"state {step}", path, base) for step, path in enumerate(inputs.states, start=1)]
        plan(base, states, inputs.choice)
    return OpenInputs(base, sources, states, paired)


def inputs_of_run(file: RunFile, names: Collection[str] | None = None) -> Inputs:
    """The inputs of a run as it took them, strengths included, without its probes; ``names``: these updates alone."""
    updates = [entry for entry in file.updates if names is None or entry.name in names]
    return Inputs(
        base=file.base.path,
        updates=[(entry.name, entry.path) for entry in updates],
        strengths={entry.name: entry.strength for entry in updates},
        choice=file.choice,
        states=[state.path for state in file.states],
    )


def reopen_inputs(store: RunStore, *, probes: bool = True) -> OpenInputs:
    """Inputs of an existing run. Raises :class:`InputError` for changed fingerprints, with ``probes`` theirs too."""
    file = store.file
    opened = open_inputs(inputs_of_run(file))
    if opened.base.fingerprint() != file.base.fingerprint:
        raise InputError(f"{file.base.where}: the base has changed since run {store.path} started")
    described = [*file.updates, *file.states]
    for source, entry in zip([*opened.sources, *(opened.states or [])], described, strict=True):
        if source.fingerprint() != entry.fingerprint:
            strength = "" if entry.strength == WHOLE else f" or its strength, {entry.strength:g} now,"
            raise InputError(f"{entry.where}: {entry.name}{strength} has changed since run {store.path} started")
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


def check_outside(out: Path, opened: OpenInputs) -> None:
    """Raises :class:`InputError` where ``out`` lies in the folder of an input."""
    folders = [folder for source in (*opened.sources, *(opened.states or [])) for folder in source.folders]
    for folder in (opened.base.root, *folders):
        if not is_remote(folder) and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{out}: lies inside the input {folder}, expected a folder outside every input")


def probe_entry(base: CheckpointIndex, probes: Path | None, dtype: str, *, checked: bool = False) -> ProbeEntry:
    """Entry of run.json for the probes. Raises :class:`InputError` as :func:`preflight` does, unless they are
    ``checked``."""
    if probes is None:
        return ProbeEntry(dtype=dtype)
    memory = None if checked else preflight(base, probes, dtype).memory_bytes
    return ProbeEntry(where=printable(probes), fingerprint=probes_fingerprint(probes), dtype=dtype, memory=memory)


def printable(path: Path) -> str:
    """``path`` resolved, as text. Raises :class:`InputError` for characters that are not printable."""
    if not str(path.resolve()).isprintable():
        raise InputError(f"{str(path)!r}: expected a path of printable characters, it is written into run.json")
    return str(path.resolve())
