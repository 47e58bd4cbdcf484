"""``probes.json`` of a probe folder: how its prompts are put to a model, and harness tasks by name. Optional.

    {"chat": true, "system": "You answer briefly.", "scoring": "letter",
     "tasks": {"mmlu": {"scoring": "text", "chat": false}}, "general_text": true,
     "lm_eval": {"tasks": ["arc_easy"], "split": "test", "limit": 200, "num_fewshot": 0, "chat": false}}

Every entry is optional. ``tasks`` sets the first three for single files, by name. ``general_text`` adds the texts that
ship with the package as a test task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.errors import InputError
from gcwm_viz.probes.lines import MAX_NAME, check_text

FILE = "probes.json"
SPLITS = ("dev", "test")
SCORINGS = ("letter", "text")
MAX_HARNESS_TASKS = 100


@dataclass(frozen=True)
class Style:
    """How a task's prompts are put to a model.

    chat: through the tokenizer's chat template, where it has one; a tokenizer without one gets the plain prompt.
    system: the chat's system message; None leaves it to the template.
    scoring: of choices, ``letter`` (listed in the prompt, the answer is a letter) or ``text`` (not listed, the answer
    is the text of a choice).
    """

    chat: bool = True
    system: str | None = None
    scoring: str = "letter"


PLAIN = Style()


@dataclass(frozen=True)
class HarnessTask:
    """A task of lm-evaluation-harness by its name there. ``limit``: examples at most, None for all; ``num_fewshot``:
    None for the task's own; ``chat``: through the tokenizer's chat template, as the harness does when asked to."""

    name: str
    split: str = "test"
    limit: int | None = None
    num_fewshot: int | None = None
    chat: bool = False


@dataclass(frozen=True)
class Description:
    """Content of ``probes.json``; the defaults where there is none."""

    style: Style = PLAIN
    tasks: Mapping[str, Style] = field(default_factory=dict)
    harness: tuple[HarnessTask, ...] = ()
    general_text: bool = False

    @classmethod
    def read(cls, root: Path) -> Description:
        """Raises InputError, naming the entry, for any other content than the module describes."""
        file = root / FILE
        if not file.is_file():
            return cls()
        content = read_json_object(file, FILE)
        general = content.pop("general_text", False)
        if not isinstance(general, bool):
            raise InputError(f"{file}: expected true or false for general_text, found {str(general)[:60]!r}")
        sections = {name: content.pop(name) for name in ("tasks", "lm_eval") if name in content}
        style = _style(content, Style(), f"{file}:")
        tasks = _mapping(sections.get("tasks", {}), f"{file}: tasks")
        return cls(
            style,
            {name: _style(_mapping(entry, f"{file}: tasks.{name}"), style, f"{file}: tasks.{name}:")
             for name, entry in tasks.items()},
            _harness(_mapping(sections["lm_eval"], f"{file}: lm_eval"), file) if "lm_eval" in sections else (),
            general,
        )  # fmt: skip

    def style_of(self, task: str) -> Style:
        return self.tasks.get(task, self.style)


def _style(entries: dict[str, Any], default: Style, where: str) -> Style:
    style = default
    for name, value in entries.items():
        if name == "chat" and isinstance(value, bool):
            style = replace(style, chat=value)
        elif name == "system" and (value is None or isinstance(value, str)):
            style = replace(style, system=value and check_text(value, f'{where} expected "system"'))
        elif name == "scoring" and value in SCORINGS:
            style = replace(style, scoring=value)
        else:
            expected = {"chat": "true or false", "system": "text or null", "scoring": " or ".join(SCORINGS)}
            if name not in expected:
                raise InputError(f"{where} has the unknown entry {name[:50]!r}; known are {', '.join(expected)}")
            raise InputError(f"{where} expected {expected[name]} for {name}, found {str(value)[:60]!r}")
    return style


def _harness(entries: dict[str, Any], file: Path) -> tuple[HarnessTask, ...]:
    where = f"{file}: lm_eval"
    unknown = sorted(set(entries) - {"tasks", "split", "limit", "num_fewshot", "chat"})
    if unknown:
        raise InputError(f"{where} has the unknown entry {unknown[0][:50]!r}")
    names = entries.get("tasks")
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= MAX_HARNESS_TASKS
        or not all(isinstance(name, str) and 0 < len(name) <= MAX_NAME and name.isprintable() for name in names)
        or len(set(names)) != len(names)
    ):
        raise InputError(f"{where}.tasks: expected a list of task names, each once, found {str(names)[:60]!r}")
    split, chat = entries.get("split", "test"), entries.get("chat", False)
    if split not in SPLITS:
        raise InputError(f"{where}.split: expected dev or test, found {str(split)[:60]!r}")
    if not isinstance(chat, bool):
        raise InputError(f"{where}.chat: expected true or false, found {str(chat)[:60]!r}")
    counts = {name: entries.get(name) for name in ("limit", "num_fewshot")}
    for name, least in (("limit", 1), ("num_fewshot", 0)):
        value = counts[name]
        if value is not None and (type(value) is not int or not least <= value <= 1_000_000):
            raise InputError(f"{where}.{name}: expected a whole number from {least} on, found {str(value)[:60]!r}")
    return tuple(HarnessTask(name, split, counts["limit"], counts["num_fewshot"], chat) for name in names)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected names with their settings, found {type(value).__name__}")
    return value
