"""Whether the disk has room for a result, checked before hours of work rather than after."""

import os
import shutil
from pathlib import Path

from gcwm_viz.errors import InputError

RESERVE_BYTES = 1_000_000
"""For files beside the tensors: settings, journal, tables. Included in the reported need."""


def check_space(out: Path, needed: int, what: str) -> None:
    """Raises :class:`InputError` when ``out``'s disk has less than ``needed`` bytes free or may not be written."""
    existing = next(folder for folder in (out, *out.resolve().parents) if folder.is_dir())
    if not os.access(existing, os.W_OK):  # true of a file system mounted read-only for root as well
        raise InputError(f"{out}: cannot write, no permission in {existing}")
    free = shutil.disk_usage(existing).free
    if needed + RESERVE_BYTES > free:
        raise InputError(f"{out}: {what} needs {_amount(needed + RESERVE_BYTES)}, the disk has {_amount(free)} free")


def _amount(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"
