"""The run folder: settings, journal, one result a matrix, tables. Whatever is listed in the journal is on disk.

    run.json                    schema, settings, inputs with fingerprints, matrices in order
    journal.jsonl               append-only, fsynced; what is done, and when
    matrices/00000.safetensors  branches of every step of one matrix; its rows beside it as 00000.json
    probes/…json                scores of one checkpoint each
    tables/NAME.parquet         written once all matrices are done

A matrix is committed by temporary name, fsync and rename, then a journal line; seconds live in the journal alone, so
that the other files come out the same bytes however often a run was interrupted.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from safetensors import safe_open
from torch import Tensor

from gcwm_viz.checkpoints.atomic import write_bytes, write_json, write_safetensors
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.matrix import MatrixResult, integrate
from gcwm_viz.errors import InputError
from gcwm_viz.merging.gcwm import blend
from gcwm_viz.updates.matrices import MatrixKey

SCHEMA = 1
FORMAT = "gcwm_viz.run"


class RunCancelledError(Exception):
    """The user asked to stop; everything finished so far is kept."""


@dataclass(frozen=True)
class Branches:
    """What is kept of one matrix at one step: ``plain`` and ``geo``, or ``merged`` alone. (d_out, d_in) float32."""

    plain: Tensor | None
    geo: Tensor | None
    merged: Tensor | None

    def blend(self, alpha: float, mode: str) -> Tensor:
        """Δ_merge; α and mode are ignored where the method has no branches."""
        if self.merged is not None:
            return self.merged
        assert self.plain is not None
        assert self.geo is not None
        return blend(self.plain, self.geo, alpha, mode)


class RunStore:
    """A run folder on disk. Open with :meth:`create` or :meth:`open`; write under :meth:`lock`."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self.settings = RunSettings.from_dict(info["settings"])
        self.updates: list[str] = [update["name"] for update in info["updates"]]
        self.keys = [MatrixKey(**entry | {"shape": tuple(entry["shape"])}) for entry in info["matrices"]]

    @classmethod
    def create(cls, path: Path, info: dict[str, Any]) -> "RunStore":
        """A new run in an empty or absent folder. Raises :class:`InputError` when something is there already."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            hint = "; use resume to go on with it" if (path / "run.json").is_file() else ""
            raise InputError(f"output {path} already exists and is not empty{hint}")
        store = cls(path, {"format": FORMAT, "schema": SCHEMA} | info)
        (path / "matrices").mkdir(parents=True, exist_ok=True)
        (path / "probes").mkdir(exist_ok=True)
        write_json(path / "run.json", store.info)
        return store

    @classmethod
    def open(cls, path: Path) -> "RunStore":
        """Raises :class:`InputError` for a folder that is not a run or has another schema."""
        file = path / "run.json"
        if not file.is_file():
            raise InputError(f"{path} is not a run folder: it has no run.json")
        try:
            info = json.loads(file.read_bytes())
        except ValueError as error:
            raise InputError(f"{file} is not valid JSON: {error}") from None
        if not isinstance(info, dict) or info.get("format") != FORMAT:
            raise InputError(f"{file} does not describe a run: expected format {FORMAT!r}")
        if info.get("schema") != SCHEMA:
            raise InputError(f"{file} has schema {info.get('schema')!r}; this version reads schema {SCHEMA}")
        try:
            return cls(path, info)
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{file} lacks or garbles an entry: {error!r}") from None

    @property
    def steps(self) -> int:
        return len(self.updates)

    @contextmanager
    def lock(self, patience: float = 1.0) -> Iterator[None]:
        """Exclusive right to write; the system releases it when the process and its workers end, however they end.

        Raises :class:`InputError` when another process still holds it after ``patience`` seconds.
        """
        with (self.path / "lock").open("a+") as handle:
            give_up = time.monotonic() + patience
            while not _try_lock(handle):
                if time.monotonic() > give_up:
                    handle.seek(0)
                    owner = handle.read().strip() or "another process"
                    raise InputError(f"run {self.path} is being written by {owner}")
                time.sleep(0.02)
            handle.truncate(0)
            handle.write(f"process {os.getpid()}")
            handle.flush()
            yield

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to the journal, on disk when this returns."""
        line = json.dumps({"time": round(time.time(), 3), "event": event} | fields, ensure_ascii=True)
        with (self.path / "journal.jsonl").open("ab") as handle:
            if handle.tell() and not self._ends_with_newline():
                handle.write(b"\n")  # a line cut short by a crash stays alone
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

    def _ends_with_newline(self) -> bool:
        with (self.path / "journal.jsonl").open("rb") as handle:
            handle.seek(-1, os.SEEK_END)
            return handle.read(1) == b"\n"

    def journal(self) -> list[dict[str, Any]]:
        """The journal's readable lines in order; a line cut short by a crash is left out."""
        file = self.path / "journal.jsonl"
        entries = []
        for raw in file.read_bytes().splitlines() if file.is_file() else []:
            try:
                entry = json.loads(raw)
            except ValueError:
                continue
            if isinstance(entry, dict) and isinstance(entry.get("event"), str):
                entries.append(entry)
        return entries

    def seconds(self) -> dict[int, float]:
        """Seconds spent on each finished matrix, from the journal."""
        return {entry["index"]: entry["seconds"] for entry in self.journal() if entry["event"] == "matrix"}

    def status(self) -> str:
        """``complete``, ``running`` (another process holds the lock) or ``interrupted``."""
        events = [entry["event"] for entry in self.journal()]
        if events and events[-1] == "complete":
            return "complete"
        file = self.path / "lock"
        if not file.is_file():
            return "interrupted"
        with file.open("rb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return "running"
        return "interrupted"

    def request_cancel(self) -> None:
        """Ask the process that works on this run to stop after the matrix or checkpoint in hand."""
        write_bytes(self.path / "cancel", b"")

    def clear_cancel(self) -> None:
        (self.path / "cancel").unlink(missing_ok=True)

    def check_cancel(self) -> None:
        """Raises :class:`RunCancelledError` when a stop was asked for."""
        if (self.path / "cancel").exists():
            raise RunCancelledError(f"run {self.path} was cancelled; resume goes on with it")

    def write_matrix(self, index: int, result: MatrixResult) -> None:
        """Put the result of one matrix on disk; it counts once :meth:`log_matrix` has listed it."""
        write_safetensors(self._tensors(index), result.tensors, {"matrix": self.keys[index].name})
        write_bytes(self._rows(index), json.dumps(result.rows).encode())  # undefined values are NaN, as Python reads

    def log_matrix(self, index: int, seconds: float) -> None:
        """List one matrix in the journal as done."""
        self.log(
            "matrix",
            index=index,
            label=self.keys[index].name,
            done=len(self.finished() | {index}),
            total=len(self.keys),
            seconds=round(seconds, 4),
        )

    def finished(self) -> set[int]:
        """Indices of matrices that are in the journal and on disk."""
        return {i for i in self.seconds() if self._rows(i).is_file() and self._tensors(i).is_file()}

    def rows(self, index: int) -> dict[str, list[dict[str, Any]]]:
        """Table rows of one finished matrix."""
        return json.loads(self._rows(index).read_bytes())

    def branches(self, index: int, step: int) -> Branches:
        """Stored tensors of one matrix at one step."""
        with safe_open(self._tensors(index), framework="pt") as handle:
            stored = set(handle.keys())
            found = {
                name: handle.get_tensor(f"{name}.{step}") if f"{name}.{step}" in stored else None
                for name in ("plain", "geo", "merged")
            }
        return Branches(**found)

    def state(self, index: int, step: int, alphas: dict[int, tuple[float, str]] | None = None) -> Tensor:
        """S_t of one matrix, rebuilt from its branches; ``alphas`` replaces (α, mode) of single steps."""
        rows = {row["step"]: row for row in self.rows(index)["matrices"]}

        def merged(at: int) -> Tensor:
            alpha, mode = (alphas or {}).get(at, (rows[at]["alpha"], rows[at]["mode"]))
            return self.branches(index, at).blend(alpha, mode)

        if rows[step]["mode"] == "trained":
            return merged(step)
        continual = self.settings.continual
        first = step if continual.decay == 1.0 else 1  # with constant η no earlier step enters
        state = previous = None
        for at in range(first, step + 1):
            current = merged(at)
            state, previous = integrate(state, current, previous, continual, at), current
        assert state is not None
        return state

    def _tensors(self, index: int) -> Path:
        return self.path / "matrices" / f"{index:05d}.safetensors"

    def _rows(self, index: int) -> Path:
        return self.path / "matrices" / f"{index:05d}.json"


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def order_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by step, matrices in model order within it (the sort is stable)."""
    return sorted(rows, key=lambda row: row["step"])
