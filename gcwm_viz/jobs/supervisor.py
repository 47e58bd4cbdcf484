"""Supervises one job: runs the command line in a child process and records how it ends.

Started by :mod:`gcwm_viz.jobs.jobs` as a script of its own, so that it outlives the server. It and the child hold the
job's lock through an inherited file descriptor: the lock is free exactly when both are gone. Standard library only,
because it must start at once and stay small.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 8.0
POLL_SECONDS = 0.2


def write_state(folder: Path, **values: object) -> None:
    """Replace FOLDER/state.json atomically: a reader sees the old state or the new one."""
    temporary = folder / f".state.{os.getpid()}.tmp"
    temporary.write_text(json.dumps(values))
    os.replace(temporary, folder / "state.json")


def main(folder: Path, lock: int, command: list[str]) -> int:
    """Run ``command`` until it ends or FOLDER/cancel appears; its output goes to FOLDER/log."""
    began = time.time()
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(lock,))
        facts = {"command": command, "started": began, "worker": os.getpid(), "child": child.pid}
        write_state(folder, status="running", **facts)
        cancelled = False
        while child.poll() is None:
            if not cancelled and (folder / "cancel").exists():
                cancelled = True
                _stop(child)
            time.sleep(POLL_SECONDS)
    status = "finished" if child.returncode == 0 else "cancelled" if cancelled else "failed"
    write_state(folder, status=status, ended=time.time(), exit_code=child.returncode, **facts)
    return 0


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Give the child time to end by itself, as its run's own cancel file asks; then terminate it, then kill it."""
    for end in (child.terminate, child.kill):
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            end()
        else:
            return


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
