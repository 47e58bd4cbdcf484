"""A folder of results belongs to what it was made from: nothing of anything else is put beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.atomic import write_json
from gcwm_viz.errors import InputError

LONGEST_SHOWN = 40
"""Characters of a text that is worth reading; a fingerprint is longer."""


def claim(out: Path, name: str, about: Mapping[str, Any], holds: str) -> None:
    """Write ``about`` to OUT/name in an empty or absent folder, or find the same there.

    Raises :class:`InputError` for a folder with other content, or one that ``holds`` (a sweep of, …) something else.
    """
    file = out / name
    if not file.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"output {out} already exists and is not empty")
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, dict(about))
        return
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}") from None
    for entry, value in about.items():
        other = found.get(entry) if isinstance(found, dict) else None
        if other != value:
            readable = isinstance(value, str) and isinstance(other, str) and len(value + other) <= 2 * LONGEST_SHOWN
            shown = f": {other!r}, not {value!r}" if readable else ""
            raise InputError(f"{out} holds {holds} another {entry}{shown}; use another output folder")
