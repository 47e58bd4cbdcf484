"""Probe files: tasks with right answers, choices or texts, and labelled texts, as JSON lines.

    DIR/dev/NAME.jsonl, DIR/test/NAME.jsonl   one of these a line, the same kind in all of a file:
                                              {"prompt": str, "answer": str}
                                              {"question": str, "choices": [str, …], "answer": index, letter or text}
                                              {"text": str}
    DIR/representation/NAME.jsonl             {"text": str, "label": str} a line
    DIR/probes.json                           how prompts are put to a model, see ``description``

A task pairs with an update of the same name. Sizes are bounded: probes run on every step of a run.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeAlias, TypeVar

from gcwm_viz.errors import InputError
from gcwm_viz.probes.description import FILE, PLAIN, SPLITS, Description, HarnessTask, Style
from gcwm_viz.probes.lines import check_text, files_in, folder_of, rows_of, text_field

__all__ = ["SPLITS", "ChoiceTask", "HarnessTask", "LabelledTask", "PromptTask", "Style", "Task", "TextTask"]

GENERAL = Path(__file__).parent / "general"
"""Texts of many kinds as a probe folder: what an update does to everything that it was not trained for."""
GENERAL_TEXT = "general"
"""The word for them where a folder of probes is asked for."""
MIN_PER_LABEL = 2
MAX_CHOICES = len(ascii_uppercase)


@dataclass(frozen=True)
class PromptTask:
    """Prompts with the one right answer of each; answer i belongs to prompt i."""

    name: str
    split: str
    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    style: Style = field(default=PLAIN, kw_only=True)

    def __post_init__(self) -> None:
        if len(self.prompts) != len(self.answers) or not self.prompts:
            raise InputError(
                f"task {self.name!r} ({self.split}): expected as many prompts as answers and at least one, "
                f"found {len(self.prompts)} and {len(self.answers)}"
            )

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class ChoiceTask:
    """Questions with choices; ``answers`` are the indices of the right ones, from 0."""

    name: str
    split: str
    questions: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]
    answers: tuple[int, ...]
    style: Style = field(default=PLAIN, kw_only=True)

    def __len__(self) -> int:
        return len(self.questions)


@dataclass(frozen=True)
class TextTask:
    """Texts for perplexity."""

    name: str
    split: str
    texts: tuple[str, ...]
    style: Style = field(default=PLAIN, kw_only=True)

    def __len__(self) -> int:
        return len(self.texts)


Task: TypeAlias = PromptTask | ChoiceTask | TextTask | HarnessTask
FileTask = TypeVar("FileTask", bound=PromptTask | ChoiceTask | TextTask)


def single(task: FileTask, example: int) -> FileTask:
    """The task with that example (from 1) alone."""
    return chosen(task, [example - 1])


def first(task: FileTask, count: int | None) -> FileTask:
    """The task with its first examples alone; all of them for None."""
    return chosen(task, range(len(task))[:count])


def chosen(task: FileTask, examples: Sequence[int]) -> FileTask:
    """The task with these examples (from 0) alone, in their order."""
    columns = [entry.name for entry in fields(task) if entry.name not in ("name", "split", "style")]
    own: dict[str, Any] = {name: tuple(getattr(task, name)[k] for k in examples) for name in columns}
    return replace(task, **own)


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


def load_tasks(directory: str | Path) -> list[Task]:
    """Every task under `directory`, development split first, each split sorted by name; harness tasks last.

    Raises InputError for a missing folder, one without probes, a harness task with the name of a file of its split,
    and a line that is not as the module describes (file:line).
    """
    root = folder_of(directory)
    description = Description.read(root)
    tasks: list[Task] = []
    for split in SPLITS:
        tasks += _split_tasks(root, split, description)
    files = {(task.split, task.name) for task in tasks}
    for task in description.harness:
        if (task.split, task.name) in files:
            raise InputError(f"{root / FILE}: the harness task {task.name!r} is also {task.split}/{task.name}.jsonl")
    tasks += description.harness
    if description.general_text:
        general = load_split(GENERAL, "test")
        double = [task.name for task in general if ("test", task.name) in {(task.split, task.name) for task in tasks}]
        if double:
            raise InputError(f"{root / FILE}: general_text adds the test task {double[0]!r}, which is there already")
        tasks += general
    if not tasks:
        raise InputError(f"{root}: expected probe files dev/NAME.jsonl or test/NAME.jsonl, found none")
    unused = sorted(set(description.tasks) - {task.name for task in tasks})
    if unused:
        raise InputError(f"{root / FILE}: tasks names {unused[0][:50]!r}, expected the name of a file in dev or test")
    return tasks


def load_split(directory: str | Path, split: str) -> list[PromptTask | ChoiceTask | TextTask]:
    """The tasks of one split's files alone, sorted by name; no file of another split is opened.

    Raises InputError for a missing folder, and a line that is not as the module describes (file:line).
    """
    root = folder_of(directory)
    return _split_tasks(root, split, Description.read(root))


def _split_tasks(root: Path, split: str, description: Description) -> list[PromptTask | ChoiceTask | TextTask]:
    return [_task(path, split, description.style_of(path.stem)) for path in files_in(root / split)]


def load_labelled(directory: str | Path) -> list[LabelledTask]:
    """Every labelled set under `directory`/representation, sorted by name; an empty list where there is none."""
    root = folder_of(directory)
    tasks = []
    for path in files_in(root / "representation"):
        rows = [tuple(text_field(row, name, where) for name in ("text", "label")) for where, row in rows_of(path)]
        try:
            tasks.append(LabelledTask(path.stem, tuple(r[0] for r in rows), tuple(r[1] for r in rows)))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return tasks


def has_probe_files(folder: Path) -> tuple[bool, bool]:
    """Whether a probe folder holds tasks and labelled sets."""
    tasks = any(any((folder / split).glob("*.jsonl")) for split in SPLITS)
    described = Description.read(folder) if folder.is_dir() else Description()
    tasks = tasks or bool(described.harness) or described.general_text
    return tasks, any((folder / "representation").glob("*.jsonl"))


def probes_fingerprint(directory: str | Path) -> str:
    """sha256 (hex) over the names and contents of every probe file."""
    root = folder_of(directory)
    digest = hashlib.sha256()
    files = [(folder, path) for folder in (*SPLITS, "representation") for path in files_in(root / folder)]
    files += [("", root / FILE)] if (root / FILE).is_file() else []
    if Description.read(root).general_text:
        files += [("general", path) for path in files_in(GENERAL / "test")]
    for folder, path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot read the file ({error.strerror or error})") from None
        digest.update(f"{folder}/{path.name}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()


KINDS = {"choices": ("question", "choices", "answer"), "prompt": ("prompt", "answer"), "text": ("text",)}
"""Fields of a line, by the one that determines its kind."""


def _task(path: Path, split: str, style: Style) -> PromptTask | ChoiceTask | TextTask:
    """The task of one file; its first line determines the kind."""
    rows = list(rows_of(path))
    where, first = rows[0]
    kind = next((field for field in KINDS if field in first), None)
    if kind is None:
        kinds = ", or ".join("/".join(fields) for fields in KINDS.values())
        raise InputError(f"{where}: expected the fields {kinds}, found {', '.join(map(str, first))[:60] or 'none'}")
    for where, row in rows:
        if kind not in row:
            raise InputError(f'{where}: expected "{kind}" as in the lines before it, found no such field')
    if kind == "prompt":
        pairs = [(text_field(row, "prompt", where), text_field(row, "answer", where)) for where, row in rows]
        return PromptTask(path.stem, split, tuple(p for p, _ in pairs), tuple(a for _, a in pairs), style=style)
    if kind == "text":
        return TextTask(path.stem, split, tuple(text_field(row, "text", where) for where, row in rows), style=style)
    questions = tuple(text_field(row, "question", where) for where, row in rows)
    choices = tuple(_choices(row["choices"], where) for where, row in rows)
    answers = tuple(
        _answer(row.get("answer"), listed, where) for (where, row), listed in zip(rows, choices, strict=True)
    )
    return ChoiceTask(path.stem, split, questions, choices, answers, style=style)


def _choices(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(choice, str) and choice for choice in value):
        raise InputError(f'{where}: expected "choices" to be a list of non-empty strings, found {str(value)[:60]!r}')
    if not 2 <= len(value) <= MAX_CHOICES or len(set(value)) != len(value):
        raise InputError(
            f'{where}: expected "choices" to be 2 to {MAX_CHOICES} different strings, '
            f"found {len(value)}, {len(set(value))} of them different"
        )
    return tuple(check_text(choice, f"{where}: expected every choice") for choice in value)


def _answer(value: Any, choices: tuple[str, ...], where: str) -> int:
    """The index of the right choice, given as an index from 0, a letter from A, or its text."""
    letters = ascii_uppercase[: len(choices)]
    if type(value) is int and 0 <= value < len(choices):
        return value
    if isinstance(value, str):
        indices = {choices.index(value)} if value in choices else set()
        indices |= {letters.index(value)} if len(value) == 1 and value in letters else set()
        if len(indices) == 1:
            return indices.pop()
        if indices:
            raise InputError(f'{where}: the "answer" {value!r} is the letter of one choice and the text of another')
    raise InputError(
        f'{where}: expected "answer" to be an index from 0 to {len(choices) - 1}, a letter from A to {letters[-1]} or '
        f"the text of a choice, found {type(value).__name__} {str(value)[:60]!r}"
    )
