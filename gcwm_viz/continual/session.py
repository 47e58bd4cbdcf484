"""Keeps a worker that outlived its driver from writing beside the workers of the driver that took over.

The lock on a run is the driver's, and forked workers share it. A worker on another machine cannot. So RUN/session
holds the name of the current session: a worker locks it, shared, while it writes a result, and checks that the name is
still that of its driver; a new driver writes a new name under an exclusive lock, which it gets once no worker writes.
"""

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcwm_viz.continual.folder import lock_exclusively
from gcwm_viz.errors import InputError, named_write_errors

FILE = "session"
PATIENCE_SECONDS = 60.0


class SupersededError(RuntimeError):
    """Another driver has taken the run over: this worker's result is discarded."""


def begin_session(run: Path, patience: float = PATIENCE_SECONDS) -> str:
    """Start a session and return its name; no worker of an earlier one writes from then on. The caller holds the run's
    lock.

    Raises :class:`InputError` when a worker of an earlier session is still writing after ``patience`` seconds.
    """
    name = secrets.token_hex(8)
    with named_write_errors(run / FILE), (run / FILE).open("a+") as handle:
        if not lock_exclusively(handle, patience):
            raise InputError(f"run {run}: a worker of an earlier session is still writing")
        handle.truncate(0)
        handle.write(name)
    return name


@contextmanager
def writing(run: Path, session: str) -> Iterator[None]:
    """Write results inside this block; raises :class:`SupersededError` when the session is over."""
    with (run / FILE).open() as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        if handle.read(100) != session:
            raise SupersededError(f"run {run} has been taken over by another session")
        yield
