"""Probe files: prompt/answer tasks and labelled texts, as JSON lines.

    DIR/dev/NAME.jsonl, DIR/test/NAME.jsonl   {"prompt": str, "answer": str} a line
    DIR/representation/NAME.jsonl             {"text": str, "label": str} a line

A task pairs with an update of the same name. Sizes are bounded: probes run on every step of a run.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gcwm_viz.errors import InputError

SPLITS = ("dev", "test")
MAX_FILE_BYTES = 32 * 2**20
MAX_EXAMPLES = 20_000
MAX_CHARACTERS = 20_000
MAX_FILES = 1_000
MAX_NAME = 100
MIN_PER_LABEL = 2


@dataclass(frozen=True)
class PromptTask:
    """Prompts with the one right answer of each; answer i belongs to prompt i."""

    name: str
    split: str
    prompts: tuple[str, ...]
    answers: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.answers) or not self.prompts:
            raise InputError(
                f"task {self.name!r} ({self.split}): expected as many prompts as answers and at least one, "
                f"found {len(self.prompts)} and {len(self.answers)}"
            )

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class LabelledTask:
    """Texts with a class label each, for linear probes on hidden states."""

    name: str
    texts: tuple[str, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise InputError(
                f"labelled set {self.name!r}: expected as many texts as labels, "
                f"found {len(self.texts)} and {len(self.labels)}"
            )
        counts = Counter(self.labels)
        if len(counts) < 2:
            raise InputError(f"labelled set {self.name!r}: expected at least 2 classes, found {len(counts)}")
        label, count = counts.most_common()[-1]
        if count < MIN_PER_LABEL:
            raise InputError(
                f"labelled set {self.name!r}: expected at least {MIN_PER_LABEL} texts a class, "
                f"found {count} with label {label!r}"
            )

    def __len__(self) -> int:
        return len(self.texts)


def load_tasks(directory: str | Path) -> list[PromptTask]:
    """Every prompt task under `directory`, development split first, each split sorted by name.

    Raises InputError for a missing folder, no probe file at all, and any line that is not as described (file:line).
    """
    root = _folder(directory)
    tasks = []
    for split in SPLITS:
        for path in _files(root / split):
            rows = list(_rows(path, ("prompt", "answer")))
            tasks.append(PromptTask(path.stem, split, tuple(r[0] for r in rows), tuple(r[1] for r in rows)))
    if not tasks:
        raise InputError(f"{root}: expected probe files dev/NAME.jsonl or test/NAME.jsonl, found none")
    return tasks


def load_labelled(directory: str | Path) -> list[LabelledTask]:
    """Every labelled set under `directory`/representation, sorted by name; an empty list where there is none."""
    root = _folder(directory)
    tasks = []
    for path in _files(root / "representation"):
        rows = list(_rows(path, ("text", "label")))
        try:
            tasks.append(LabelledTask(path.stem, tuple(r[0] for r in rows), tuple(r[1] for r in rows)))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return tasks


def probes_fingerprint(directory: str | Path) -> str:
    """sha256 (hex) over the names and contents of every probe file."""
    root = _folder(directory)
    digest = hashlib.sha256()
    for folder in (*SPLITS, "representation"):
        for path in _files(root / folder):
            try:
                content = path.read_bytes()
            except OSError as error:
                raise InputError(f"{path}: cannot read the file ({error.strerror or error})") from None
            digest.update(f"{folder}/{path.name}:{len(content)}:".encode())
            digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    """Probe files by name, bounded in number and size, each with a name that tables and pages can show."""
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


def _folder(directory: str | Path) -> Path:
    root = Path(directory)
    if not root.is_dir():
        raise InputError(f"{root}: expected a folder of probes, found {'a file' if root.exists() else 'nothing'}")
    return root


def _rows(path: Path, fields: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """The two string fields of every line; blank lines are skipped."""
    found = 0
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
        found += 1
        if found > MAX_EXAMPLES:
            raise InputError(f"{path}:{number}: expected at most {MAX_EXAMPLES} examples, found more")
        yield _fields(line, f"{path}:{number}", fields)
    if not found:
        raise InputError(f"{path}: expected at least one line, found an empty file")


def _fields(line: str, place: str, fields: tuple[str, str]) -> tuple[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # a number of thousands of digits is a ValueError of its own
        raise InputError(f"{place}: expected a JSON object, found {line[:60]!r}") from None
    if not isinstance(row, dict):
        raise InputError(f"{place}: expected a JSON object, found {type(row).__name__}")
    values = []
    for field in fields:
        value = row.get(field)
        # Labels are often small integers; text fields are not.
        if field == "label" and isinstance(value, int):
            value = str(value)
        if not isinstance(value, str) or not value:
            found = f"{type(value).__name__} {str(value)[:60]!r}" if field in row else "no such field"
            raise InputError(f'{place}: expected "{field}" to be a non-empty string, found {found}')
        if len(value) > MAX_CHARACTERS:
            raise InputError(f'{place}: expected "{field}" of at most {MAX_CHARACTERS} characters, found {len(value)}')
        try:
            value.encode()
        except UnicodeEncodeError:  # JSON can spell half a surrogate pair, which no tokenizer or table takes
            raise InputError(f'{place}: expected "{field}" to be Unicode text, found half a surrogate pair') from None
        values.append(value)
    return values[0], values[1]
