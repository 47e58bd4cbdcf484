"""A folder that one process at a time works in: its lock, its journal, and the file that asks it to stop."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from gcwm_viz.checkpoints.atomic import named_write_errors, write_bytes
from gcwm_viz.continual import journal
from gcwm_viz.errors import InputError


class WorkCancelledError(Exception):
    """The user asked to stop; everything finished so far is kept."""


class WorkFolder:
    """An existing folder of results. Whoever writes there does it under :meth:`lock`."""

    kind = ""
    """What sentences call the folder, before its path."""
    goes_on = "the same command"
    """What goes on with work that was cancelled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def lock(self, patience: float = 1.0) -> Iterator[None]:
        """Exclusive right to write; the system releases it when the process and its workers end, however they end.

        Raises :class:`InputError` when another process still holds it after ``patience`` seconds.
        """
        with self._lock_file() as handle:
            give_up = time.monotonic() + patience
            while not _try_lock(handle):
                if time.monotonic() > give_up:
                    handle.seek(0)
                    owner = handle.read(100).strip() or "another process"
                    raise InputError(f"{self.kind}{self.path} is being written by {owner}")
                time.sleep(0.02)
            with named_write_errors(self.path / "lock"):
                handle.truncate(0)
                handle.write(f"process {os.getpid()}")
                handle.flush()
            yield

    def _lock_file(self) -> IO[str]:
        with named_write_errors(self.path / "lock"):
            return (self.path / "lock").open("a+", errors="replace")

    def log(self, event: str, **fields: Any) -> None:
        """Append one line to the journal, on disk when this returns."""
        journal.append(self.path / "journal.jsonl", event, **fields)

    def journal(self) -> list[dict[str, Any]]:
        """The journal's readable lines in order; a line cut short by a crash is left out."""
        return journal.entries(self.path / "journal.jsonl")

    @contextmanager
    def failure_in_journal(self) -> Iterator[None]:
        """Whoever watches the journal learns why the work in this block stopped."""
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
        except OSError:  # not ours to open, so nobody can be seen to hold it
            return "interrupted"
        return "interrupted"

    def request_cancel(self) -> None:
        """Ask the process that works here to stop after the piece in hand."""
        write_bytes(self.path / "cancel", b"")

    def clear_cancel(self) -> None:
        (self.path / "cancel").unlink(missing_ok=True)

    def check_cancel(self) -> None:
        """Raises :class:`WorkCancelledError` when a stop was asked for."""
        if (self.path / "cancel").exists():
            raise WorkCancelledError(f"{self.kind}{self.path} was cancelled; {self.goes_on} goes on with it")


def _try_lock(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
