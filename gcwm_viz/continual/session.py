"""Keeps a worker that outlived its driver from writing beside the workers of the driver that took over.

The lock on a run is the driver's, and forked workers share it. A worker on another machine cannot. So RUN/session
names who may write: a worker holds it, shared, while it puts a result on disk, and looks whether it is still named; a
new driver names its own under an exclusive lock, which it has once nobody writes.
"""

import fcntl
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcwm_viz.checkpoints.atomic import named_write_errors
from gcwm_viz.errors import InputError

FILE = "session"
PATIENCE_SECONDS = 60.0


class SupersededError(RuntimeError):
    """Another driver has taken the run over: this worker's result is not wanted any more."""


def begin_session(run: Path, patience: float = PATIENCE_SECONDS) -> str:
    """A new session's name, after which no worker of an earlier one writes; the caller holds the run's lock.

    Raises :class:`InputError` when a worker of an earlier session is still writing after ``patience`` seconds.
    """
    name = secrets.token_hex(8)
    with named_write_errors(run / FILE), (run / FILE).open("a+") as handle:
        give_up = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise InputError(f"run {run}: a worker of an earlier session is still writing") from None
                time.sleep(0.02)
        handle.truncate(0)
        handle.write(name)
    return name


@contextmanager
def writing(run: Path, session: str) -> Iterator[None]:
    """Put results on disk inside this block; raises :class:`SupersededError` when the session is over."""
    with (run / FILE).open() as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        if handle.read(100) != session:
            raise SupersededError(f"run {run} has been taken over by another session")
        yield
