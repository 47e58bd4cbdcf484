"""The journal of a run: one JSON object per line, flushed to disk before the work continues."""

import json
import os
import time
from pathlib import Path
from typing import Any

from gcwm_viz.errors import InputError, named_write_errors

MAX_BYTES = 256_000_000


def append(file: Path, event: str, **fields: Any) -> None:
    """Add one line; it is on disk when this returns. Raises :class:`InputError` where the system refuses to write."""
    line = json.dumps({"time": round(time.time(), 3), "event": event} | fields, ensure_ascii=True)
    with named_write_errors(file), file.open("ab") as handle:
        if handle.tell() and not _ends_with_newline(file):
            handle.write(b"\n")  # a line cut short by a crash stays alone
        handle.write(line.encode() + b"\n")
        handle.flush()
        os.fsync(handle.fileno())


def entries(file: Path) -> list[dict[str, Any]]:
    """The readable lines in order, each with a text ``event``; a line cut short by a crash is left out."""
    if not file.is_file():
        return []
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{file} has {size} bytes, expected at most {MAX_BYTES}")
    return [entry for raw in file.read_bytes().splitlines() if (entry := _entry(raw)) is not None]


def _entry(raw: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("event"), str) else None


def _ends_with_newline(file: Path) -> bool:
    with file.open("rb") as handle:
        handle.seek(-1, os.SEEK_END)
        return handle.read(1) == b"\n"
