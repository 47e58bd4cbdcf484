"""Long jobs as processes of the same command line that a user would type.

A job is a folder ROOT/.jobs/NAME with ``lock`` (held while it runs), ``state.json``, ``log`` and, to ask it to stop,
``cancel``. It survives page switches, reloads, a second window and a restart of the server; starting it while it runs
is refused by the lock, so it never runs twice.
"""

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gcwm_viz.errors import InputError
from gcwm_viz.jobs import supervisor
from gcwm_viz.plugins.loaded import loaded

Status = Literal["none", "running", "finished", "failed", "cancelled", "died"]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAIL_BYTES = 65536
_START_TRIES = 5
_PACKAGE_ROOT = str(Path(__file__).resolve().parents[2])
_started: list[subprocess.Popen[bytes]] = []
"""Processes that this one started, to reap those that have ended."""


@dataclass(frozen=True)
class Job:
    """State of a job. ``message``: the last line it printed. ``died``: its process ended without recording how."""

    name: str
    status: Status
    message: str = ""
    started: float = float("nan")
    command: tuple[str, ...] = ()


def valid_name(name: str) -> str:
    """``name`` if it can be the folder of a job. Raises :class:`InputError` otherwise."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"run name {name!r}: expected up to 64 letters, digits, dots, dashes or underscores, a letter or "
            "digit first"
        )
    return name


def start(root: Path, name: str, arguments: list[str]) -> bool:
    """Start :func:`command` as job ``name``; False when it is running already.

    Raises :class:`InputError` where the folder of jobs cannot be written.
    """
    folder = _folder(root, name)
    try:
        return _start(folder, arguments)
    except OSError as error:
        raise InputError(f"{folder}: cannot start a job there ({error.strerror or error})") from None


def _start(folder: Path, arguments: list[str]) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock_to_start(folder)
    if lock is None:
        return False
    try:
        (folder / "cancel").unlink(missing_ok=True)
        call = command(arguments)
        supervisor.write_state(folder, status="running", command=call)
        _reap()
        worker = subprocess.Popen(
            [sys.executable, supervisor.__file__, str(folder), str(lock), *call],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=(lock,),
            env=environment(),
        )
        _started.append(worker)
    finally:
        os.close(lock)
    return True


def command(arguments: Sequence[str]) -> list[str]:
    """``python -m gcwm_viz ARGUMENTS`` with the plug-ins of this process; an installed one needs no option."""
    plugins = [part for plugin in loaded() if not plugin.installed for part in ("--plugin", plugin.spec)]
    return [sys.executable, "-m", "gcwm_viz", *arguments, *plugins]


def environment() -> dict[str, str]:
    """Environment of :func:`command`, which finds this package from any folder."""
    path = os.pathsep.join(filter(None, [_PACKAGE_ROOT, os.environ.get("PYTHONPATH", "")]))
    return os.environ | {"PYTHONPATH": path}


def look(root: Path, name: str) -> Job:
    """The state of job ``name`` now."""
    _reap()
    folder = _folder(root, name)
    state = _read_state(folder)
    if state is None:
        return Job(name, "none")
    status: Status = state.get("status", "died")
    if status == "running":
        lock = _try_lock(folder, fcntl.LOCK_SH)
        if lock is not None:
            os.close(lock)
            # It may have ended between the two reads: only a state that still says "running" means that it died.
            state = _read_state(folder) or {}
            status = state.get("status", "died")
            status = "died" if status == "running" else status
    started, call = state.get("started"), state.get("command")
    started = float(started) if isinstance(started, int | float) and abs(started) < 1e12 else float("nan")
    return Job(
        name,
        status if status in get_args(Status) else "died",
        _last_line(folder / "log"),
        started,
        tuple(map(str, call)) if isinstance(call, list) else (),
    )


def cancel(root: Path, name: str, folder: Path | None = None) -> None:
    """Ask job ``name``, and every process that works in ``folder``, to stop after the current matrix; what is finished
    is kept. ``folder``: that of a run or a study, also where a shell works on it instead of a job."""
    job = _folder(root, name)
    try:
        if job.is_dir():
            (job / "cancel").touch()
        if folder is not None and any((folder / file).is_file() for file in ("run.json", "journal.jsonl")):
            (folder / "cancel").touch()
    except OSError as error:
        raise InputError(f"{folder or job}: cannot ask the job to stop ({error.strerror or error})") from None


def cancel_asked(root: Path, name: str, folder: Path | None = None) -> bool:
    """Whether job ``name``, or what works in ``folder``, was asked to stop and has not stopped yet."""
    return any((each / "cancel").exists() for each in (_folder(root, name), folder) if each is not None)


def forget(root: Path, name: str) -> None:
    """Delete the state of an ended job; its lock file stays, because another process may be starting the job."""
    if look(root, name).status != "running":
        (_folder(root, name) / "state.json").unlink(missing_ok=True)


def names(root: Path) -> list[str]:
    """Names of the jobs that were ever started below ``root`` and not forgotten."""
    folder = root / ".jobs"
    try:
        children = sorted(child.name for child in folder.iterdir()) if folder.is_dir() else []
    except OSError:
        return []
    return [name for name in children if _NAME.fullmatch(name) and (folder / name / "state.json").is_file()]


def _reap() -> None:
    """Collect processes that have ended, so that none remains as a zombie."""
    _started[:] = [worker for worker in _started if worker.poll() is None]


def _folder(root: Path, name: str) -> Path:
    return root / ".jobs" / valid_name(name)


def _try_lock(folder: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        if kind == fcntl.LOCK_EX:
            raise
        handle = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)  # reading the state needs no right to write
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _lock_to_start(folder: Path) -> int | None:
    """The job's lock, or None when it runs. A reader in another window holds it for a moment, hence the retries."""
    for _ in range(_START_TRIES):
        if (lock := _try_lock(folder)) is not None:
            return lock
        time.sleep(0.05)
    return None


def _read_state(folder: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return state if isinstance(state, dict) else None


def _last_line(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
