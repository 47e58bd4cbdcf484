"""Memory of this machine that is available for new work."""

import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes free for new work, within the limit of a container where there is one; None where the system does not
    say."""
    limits = [free for free in (_system(), _container()) if free is not None]
    return max(0, min(limits)) if limits else None


def _container() -> int | None:
    """What a control group (version 2) leaves; inactive pages of files count as free, as in MemAvailable."""
    try:
        limit, used = (int((_GROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        lines = (_GROUP / "memory.stat").read_text().splitlines()
        return limit - used + sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return None


def _system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        try:
            return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            return None
