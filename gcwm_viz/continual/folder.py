"""A folder with one writing process at a time: its lock, its journal, and the file that requests a stop."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual import journal
from gcwm_viz.errors import InputError, named_write_errors


class WorkCancelledError(Exception):
    """The user requested a stop; everything finished so far is kept."""


class WorkFolder:
    """An existing folder of results. Every writer holds :meth:`lock`."""

    kind = ""
    """Noun for the folder, before its path in sentences."""
    goes_on = "the same command"
    """The command that continues cancelled work."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lock(self, patience: float = 1.0) -> Iterator[None]:
        """Exclusive right to write; the system releases it when the process and its workers end, in whatever way.

        Raises :class:`InputError` when another process still holds it after ``patience`` seconds.
        """
        with named_write_errors(self.path / "lock"):
            file = (self.path / "lock").open("a+", errors="replace")
        with file as handle:
            if not lock_exclusively(handle, patience):
                handle.seek(0)
                owner = handle.read(100).strip() or "another process"
                raise InputError(f"{self.kind}{self.path} is being written by {owner}")
            with named_write_errors(self.path / "lock"):
                handle.truncate(0)
                handle.write(f"process {os.getpid()}")
                handle.flush()
            yield

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to the journal; it is on disk when this returns."""
        journal.append(self.path / "journal.jsonl", event, **fields)

    def journal(self) -> list[dict[str, Any]]:
        """The journal's readable lines in order; a line cut short by a crash is left out."""
        return journal.entries(self.path / "journal.jsonl")

    @contextmanager
    def failure_in_journal(self) -> Iterator[None]:
        """Record in the journal why the work in this block stopped."""
        try:
            yield
        except BaseException as error:
            with suppress(InputError):  # on a full disk the journal cannot be written either; the error itself matters
                self.log("error", message=str(error) or type(error).__name__)
            raise

    def status(self) -> str:
        """``complete``, ``running`` (another process holds the lock) or ``interrupted``."""
        events = [entry["event"] for entry in self.journal()]
        if events and events[-1] == "complete":
            return "complete"
        file = self.path / "lock"
        if not file.is_file():
            return "interrupted"
        try:
            with file.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running"
        except OSError:  # without permission to open it, no holder can be detected
            return "interrupted"
        return "interrupted"

    def request_cancel(self) -> None:
        """Ask the working process to stop after the current piece of work."""
        write_bytes(self.path / "cancel", b"")

    def clear_cancel(self) -> None:
        (self.path / "cancel").unlink(missing_ok=True)

    def check_cancel(self) -> None:
        """Raises :class:`WorkCancelledError` when a stop was requested."""
        if (self.path / "cancel").exists():
            raise WorkCancelledError(f"{self.kind}{self.path} was cancelled; {self.goes_on} goes on with it")


def lock_exclusively(file: IO[str], patience: float) -> bool:
    """Lock an open file; False when another process still holds it after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        else:
            return True
