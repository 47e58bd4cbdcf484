"""The run folder: settings, journal, one result per matrix, tables. Everything that the journal lists is on disk.

    run.json                    schema, settings, inputs with fingerprints, matrices in order
    journal.jsonl               append-only, fsynced; what is done, and when
    matrices/00000.safetensors  branches of every step of one matrix; its rows beside it as 00000.json
    probes/…json                scores of one checkpoint each
    tables/NAME.parquet         written once all matrices are done

A matrix is committed by temporary name, fsync and rename, then a journal line. Only the journal holds seconds, so the
other files have the same bytes however often a run was interrupted.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gcwm_viz.checkpoints.atomic import partial_name, write_bytes, write_json, write_safetensors
from gcwm_viz.checkpoints.header import read_header
from gcwm_viz.continual.branches import Branches, read_branches
from gcwm_viz.continual.config import as_written_now, difference
from gcwm_viz.continual.folder import WorkFolder
from gcwm_viz.continual.result import MatrixResult
from gcwm_viz.continual.run_file import RunFile
from gcwm_viz.continual.state import state_of
from gcwm_viz.errors import InputError, named_write_errors
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.merging.merge import TRAINED
from gcwm_viz.merging.registry import get_method

_SKELETON = {"matrices", "probes", "lock", partial_name(Path("run.json")).name}
"""What a run folder can hold before run.json exists, as after a kill while it was created."""


class RunStore(WorkFolder):
    """A run folder on disk. Open with :meth:`create` or :meth:`open`; write under :meth:`lock`."""

    kind = "run "
    goes_on = "resume"

    def __init__(self, path: Path, file: RunFile) -> None:
        super().__init__(path)
        self.file = file
        self.settings = file.settings
        self.updates = [update.name for update in file.updates]
        self.keys = list(file.matrices)

    @classmethod
    def create(cls, path: Path, file: RunFile) -> "RunStore":
        """A new run in an empty or absent folder. Raises :class:`InputError` when it is occupied."""
        _refuse_occupied(path)
        store = cls(path, file)
        with named_write_errors(path):
            (path / "matrices").mkdir(parents=True, exist_ok=True)
            (path / "probes").mkdir(exist_ok=True)
        with store.lock():
            _refuse_occupied(path)  # another process may have been faster
            write_json(path / "run.json", file.to_json())
        return store

    @classmethod
    def open(cls, path: Path) -> "RunStore":
        """Raises :class:`InputError` for a folder that is not a run, has another schema or a malformed run.json."""
        return cls(path, RunFile.read(path))

    @property
    def steps(self) -> int:
        return len(self.updates)

    @property
    def probe_dtype(self) -> torch.dtype:
        """Precision in which the run's models are probed."""
        dtype: torch.dtype = getattr(torch, self.file.probes.dtype)
        return dtype

    def seconds(self) -> dict[int, float]:
        """Seconds spent on each finished matrix, from the journal."""
        seconds = {}
        for entry in self.journal():
            index, value = entry.get("index"), entry.get("seconds")
            if entry["event"] == "matrix" and type(index) is int and 0 <= index < len(self.keys):
                number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
                seconds[index] = float(number) if abs(number) < 1e12 else math.nan
        return seconds

    def check_settings(self) -> None:
        """Raises :class:`InputError`, naming the setting, when run.json differs from what the run started with."""
        for entry in self.journal():
            started = entry.get("settings")
            if entry["event"] == "start" and isinstance(started, dict):
                changed = difference(as_written_now(started), json.loads(json.dumps(self.settings.to_dict())))
                if changed:
                    raise InputError(
                        f"run {self.path} started with other settings than its run.json has now: {changed}"
                    )
                return

    def settle_eta(self, eta: float, tried: Iterable[float]) -> "RunStore":
        """The run with the η that was chosen; nothing but this has been computed of it. The caller holds the lock."""
        settled = replace(self.file, settings=self.settings.at_eta(eta), eta_tried=tuple(tried))
        write_json(self.path / "run.json", settled.to_json())
        return RunStore(self.path, settled)

    def write_matrix(self, index: int, result: MatrixResult) -> None:
        """Write the result of one matrix; it counts once :meth:`log_matrix` has listed it."""
        write_safetensors(self._tensors(index), result.tensors, {"matrix": self.keys[index].name})
        write_bytes(self._rows(index), json.dumps(result.rows).encode())  # undefined values are NaN, as Python reads

    def log_matrix(self, index: int, seconds: float, done: int, worker: str) -> None:
        """List one matrix in the journal, the ``done``-th to be finished, and its worker."""
        self.log(
            "matrix",
            index=index,
            label=self.keys[index].name,
            done=done,
            total=len(self.keys),
            seconds=round(seconds, 4),
            worker=worker,
        )

    def finished(self) -> set[int]:
        """Indices of matrices that are in the journal and on disk."""
        return {i for i in self.seconds() if self._rows(i).is_file() and self._tensors(i).is_file()}

    def check_merge(self, purpose: str) -> None:
        """Raises :class:`InputError` for a run of a training pipeline, which has no merge for ``purpose``."""
        if self.file.states:
            raise InputError(f"run {self.path} describes a training pipeline: there is no merge {purpose}")

    def check_kept(self, purpose: str) -> None:
        """Raises :class:`InputError` for a run that merges tensors outside its matrices, which ``purpose`` is not made
        for."""
        if self.settings.continual.outside != "keep":
            raise InputError(
                f"run {self.path} merges what lies outside its target matrices too (outside="
                f"{self.settings.continual.outside}), and {purpose} knows its matrices alone; expected a run with "
                "outside=keep"
            )

    def check_finished(self) -> None:
        """Raises :class:`InputError` while matrices are missing."""
        unfinished = len(self.keys) - len(self.finished())
        if unfinished:
            raise InputError(f"run {self.path} is not finished: {unfinished} matrices are missing; use resume first")

    def discard_damaged(self) -> list[str]:
        """Delete incomplete results of a crash or a faulty disk, so that they are computed again; returns their
        matrices."""
        damaged = []
        first = 1 if self.settings.continual.keep == "all" else self.steps
        expected = {str(step) for step in range(first, self.steps + 1)}
        for index in sorted(self.finished()):
            try:
                self.rows(index)
                header, _ = read_header(self._tensors(index))
                complete = {name.rpartition(".")[2] for name in header} == expected
            except InputError:
                complete = False
            if not complete:
                damaged.append(self.keys[index].name)
                with named_write_errors(self.path / "matrices"):
                    self._rows(index).unlink()
                    self._tensors(index).unlink()
        return damaged

    def rows(self, index: int) -> dict[str, list[dict[str, Any]]]:
        """Table rows of one finished matrix. Raises :class:`InputError` when the file is damaged."""
        file = self._rows(index)
        try:
            rows: dict[str, list[dict[str, Any]]] = json.loads(file.read_bytes())
            steps = [row["step"] for row in rows["matrices"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{file} is damaged ({str(error)[:100]}); resume computes it again") from None
        if steps != list(range(1, self.steps + 1)):
            raise InputError(f"{file} is damaged (it has not one row a step); resume computes it again")
        return rows

    def branches(self, index: int, step: int) -> Branches:
        """Stored tensors of one matrix at one step. Raises :class:`InputError` where the run did not store that
        step."""
        if self.settings.continual.keep == "last" and step < self.steps:
            raise InputError(
                f"run {self.path} keeps the tensors of its last step alone (keep=last), expected step {self.steps}, "
                f"found {step}"
            )
        branches = get_method(self.settings.method).branches
        return read_branches(self._tensors(index), step, self.keys[index].shape, branches)

    def state(self, index: int, step: int, alphas: dict[int, tuple[float, str]] | None = None) -> Tensor:
        """S_t of one matrix, rebuilt from its branches; ``alphas`` replaces (α, mode) of single steps."""
        return dense(self.stored_state(index, step, alphas))

    def stored_state(self, index: int, step: int, alphas: dict[int, tuple[float, str]] | None = None) -> Update:
        """The same, factored where the run stores factors."""
        rows = {row["step"]: row for row in self.rows(index)["matrices"]}

        def merged(at: int) -> Update:
            alpha, mode = (alphas or {}).get(at, (rows[at]["alpha"], rows[at]["mode"]))
            return self.branches(index, at).blend(alpha, mode)

        if rows[step]["mode"] == TRAINED:
            return merged(step)
        return state_of(step, merged, self.settings.continual)

    def _tensors(self, index: int) -> Path:
        return self.path / "matrices" / f"{index:05d}.safetensors"

    def _rows(self, index: int) -> Path:
        return self.path / "matrices" / f"{index:05d}.json"


def _refuse_occupied(path: Path) -> None:
    """Raises :class:`InputError` unless ``path`` is free for a new run; remains of a killed creation are allowed."""
    try:
        if not path.exists():
            return
        names = {item.name for item in path.iterdir()} if path.is_dir() else {"a file"}
        results = any(any((path / name).iterdir()) for name in names & {"matrices", "probes"})
    except OSError as error:
        raise InputError(f"output {path} cannot be read ({error.strerror or error})") from None
    if results or not names <= _SKELETON:
        hint = "; use resume to go on with it" if "run.json" in names else ""
        raise InputError(f"output {path} already exists and is not empty{hint}")


def order_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by step, matrices in model order within it (the sort is stable)."""
    return sorted(rows, key=lambda row: row["step"])
