"""JSON lines of probe files, bounded in size; every error names its file and line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.location import location
from gcwm_viz.errors import InputError

MAX_FILE_BYTES = 32 * 2**20
MAX_EXAMPLES = 20_000
MAX_CHARACTERS = 20_000
MAX_FILES = 1_000
MAX_NAME = 100


def folder_of(directory: str | Path) -> Path:
    """``directory`` as a path; InputError where it is not a folder."""
    root = location(directory)
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of probes, found {'a file' if root.exists() else 'nothing'}")
    return root


def files_in(folder: Path) -> list[Path]:
    """Probe files by name. Raises InputError for too many, one too large, and a name that cannot be shown."""
    files = sorted(folder.glob("*.jsonl"))
    if len(files) > MAX_FILES:
        raise InputError(f"{folder}: expected at most {MAX_FILES} probe files, found {len(files)}")
    for path in files:
        if len(path.stem) > MAX_NAME or not path.stem.isprintable():
            raise InputError(
                f"{folder}: the file name {path.name[:120]!r} is a task's name, expected at most {MAX_NAME} printable "
                "characters"
            )
        if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: expected at most {MAX_FILE_BYTES} bytes of probes, found {path.stat().st_size}")
    return files


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, JSON object) of every line; blank lines are skipped."""
    examples = 0
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, found a bad byte at offset {error.start}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot read the file ({error.strerror or error})") from None
    # Not str.splitlines: it also breaks at U+2028 and other characters that JSON allows inside a string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        examples += 1
        if examples > MAX_EXAMPLES:
            raise InputError(f"{path}:{number}: expected at most {MAX_EXAMPLES} examples, found more")
        yield f"{path}:{number}", _object(line, f"{path}:{number}")
    if not examples:
        raise InputError(f"{path}: expected at least one line, found an empty file")


def text_field(row: dict[str, Any], field: str, where: str) -> str:
    """A non-empty string of bounded length; for ``label`` a whole number too."""
    value = row.get(field)
    # Labels are often small integers; text fields are not.
    if field == "label" and isinstance(value, int):
        value = str(value)
    if not isinstance(value, str) or not value:
        actual = f"{type(value).__name__} {str(value)[:60]!r}" if field in row else "no such field"
        raise InputError(f'{where}: expected "{field}" to be a non-empty string, found {actual}')
    return check_text(value, f'{where}: expected "{field}"')


def check_text(value: str, expected: str) -> str:
    """``value``; InputError that begins with ``expected`` where it is too long or cannot be encoded."""
    if len(value) > MAX_CHARACTERS:
        raise InputError(f"{expected} of at most {MAX_CHARACTERS} characters, found {len(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:  # JSON can contain half a surrogate pair, which no tokenizer or table accepts
        raise InputError(f"{expected} to be Unicode text, found half a surrogate pair") from None
    return value


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError too
        raise InputError(f"{where}: expected a JSON object, found {line[:60]!r}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return row
