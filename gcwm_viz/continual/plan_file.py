"""A plan: what to merge, in which order and with which settings, as a small YAML file to read and edit.

    base: models/base
    updates:
    - {name: medicine, path: models/medicine}
    - {name: law, path: models/law, strength: 0.33}
    preset: scale-free
    method: gcwm
    settings: {eta: 0.5}
    leave_out: down_proj
    probes: null
    probe_dtype: float32

Only ``base`` and ``updates`` are required. Relative paths start at the plan's own folder. An update's Δ is multiplied
by its ``strength``, 1 where it has none, before anything else. ``states`` lists the states of a training, one for each
update, to be described instead of a merge. ``targets`` and ``leave_out`` are patterns of tensor names: which matrices
are merged, by default those of the decoder blocks. A mergekit configuration is a plan too, where its merge is one of
ours: see :mod:`gcwm_viz.continual.mergekit_plan`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gcwm_viz.checkpoints.hub import HUB_ID, UPON, split_pair, splits
from gcwm_viz.checkpoints.location import location
from gcwm_viz.continual.config import RunSettings, fixed, parse_setting
from gcwm_viz.continual.mergekit_plan import MARK, Mergekit, MergekitError, read_mergekit
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.errors import InputError
from gcwm_viz.merging.registry import get_method
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.strength import RANGE, WHOLE, from_text, is_strength

MAX_BYTES = 1_000_000
MAX_UPDATES = 10_000
MAX_TEXT = 4096
_KEYS = (
    *("base", "updates", "states", "targets", "leave_out"),
    *("preset", "method", "settings", "probes", "probe_dtype"),
)


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The content of a plan. ``updates``: (name, folder) in order of arrival. ``strengths``: by update, in (0, 10], 1
    for those that are absent. ``states``: of a training, one for each update. ``choice``: of the target matrices.
    ``settings``: single settings over the preset's, by the names that ``--set`` takes; η may be ``auto``, to be chosen
    on the development probes."""

    base: Path
    updates: tuple[tuple[str, Path], ...]
    strengths: Mapping[str, float] = field(default_factory=dict)
    states: tuple[Path, ...] = ()
    choice: Choice = field(default_factory=Choice)
    preset: str = "scale-free"
    method: str = "gcwm"
    settings: Mapping[str, Any] = field(default_factory=dict)
    probes: Path | None = None
    probe_dtype: str = PROBE_DTYPES[0]

    def run_settings(self) -> RunSettings:
        """The default stands for an η that is to be chosen. Raises :class:`InputError` for an unknown preset, method or
        setting, or a value out of range."""
        get_method(self.method)
        return RunSettings.preset_with(self.preset, fixed(self.settings), self.method)

    def to_yaml(self) -> str:
        """The file's text; :func:`parse_plan` reads the same plan from it."""
        content: dict[str, Any] = {
            "base": str(self.base),
            "updates": [self._entry(name, path) for name, path in self.updates],
            **self.choice.to_json(),
            "preset": self.preset,
            "method": self.method,
            "settings": dict(self.settings),
            "probes": None if self.probes is None else str(self.probes),
        }
        if self.states:
            content["states"] = [str(path) for path in self.states]
        if self.probe_dtype != PROBE_DTYPES[0]:
            content["probe_dtype"] = self.probe_dtype
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)

    def _entry(self, name: str, path: Path) -> dict[str, Any]:
        strength = self.strengths.get(name, WHOLE)
        return {"name": name, "path": str(path)} | ({} if strength == WHOLE else {"strength": float(strength)})


def read_plan(file: Path) -> RunPlan:
    """The plan in ``file``. Raises :class:`InputError` for a file that cannot be read or is no plan."""
    try:
        with file.open("rb") as handle:
            raw = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot read the plan ({error.strerror or error})") from None
    return parse_plan(raw, str(file), file.resolve().parent)


def parse_plan(raw: bytes, source: str, folder: Path | None = None) -> RunPlan:
    """A plan from the bytes of its file. ``source`` names it in errors.

    ``folder``: where relative paths start; without one (an upload has no folder) they are refused.
    Raises :class:`InputError` naming the entry, what was expected and what was found.
    """
    try:
        content = _Content(_load(raw), folder)
        if MARK in content.values:
            return _of_mergekit(read_mergekit(content.values), content)
        unknown = sorted(str(key)[:50] for key in content.values if key not in _KEYS)
        if unknown:
            raise _PlanError(f"has the unknown entry {unknown[0]!r}; known are {', '.join(_KEYS)}")
        return RunPlan(
            base=content.path(content.values.get("base"), "base"),
            updates=content.updates(),
            strengths=content.strengths(),
            states=content.states(),
            choice=Choice(targets=content.word("targets", ""), leave_out=content.word("leave_out", "")),
            preset=content.word("preset", "scale-free"),
            method=content.word("method", "gcwm"),
            settings=content.settings(),
            probes=None if content.values.get("probes") is None else content.path(content.values["probes"], "probes"),
            probe_dtype=content.precision(),
        )
    except (_PlanError, MergekitError) as error:
        raise InputError(f"plan {source} {error}") from None


def _of_mergekit(merge: Mergekit, content: "_Content") -> RunPlan:
    """An adapter upon the base is the adapter, as in a plan; a name that is no folder is one of the hub, as there."""
    upon = f"{merge.base}{UPON}"
    updates = tuple(
        (name, content.model(model.removeprefix(upon), f"the model {name!r}")) for name, model in merge.updates
    )
    strengths = {name: strength for name, strength in merge.strengths.items() if strength != WHOLE}
    for name, strength in strengths.items():
        if not is_strength(strength):
            raise _PlanError(f"must give the weight of {name[:50]!r} as {RANGE}, found {strength:g}")
    return RunPlan(
        base=content.model(merge.base, "base_model"), updates=updates, strengths=strengths, method=merge.method,
        settings=merge.settings,
    )  # fmt: skip


class _PlanError(Exception):
    """A fault of the plan: the rest of a sentence that begins with its name."""


def _load(raw: bytes) -> dict[Any, Any]:
    if len(raw) > MAX_BYTES:
        raise _PlanError(f"is too large, expected at most {MAX_BYTES:,} bytes")
    try:
        values = yaml.load(raw.decode("utf-8"), Loader=_PlainLoader)
    except UnicodeDecodeError:
        raise _PlanError("is not text in UTF-8") from None
    except RecursionError:
        raise _PlanError("is not valid YAML (nesting too deep)") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: an impossible date, a number of thousands of digits
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise _PlanError(f"is not valid YAML{where} ({' '.join(str(problem).split())[:200]})") from None
    if not isinstance(values, dict):
        raise _PlanError(f"must map names to values, found {_kind(values)}")
    return values


class _PlainLoader(yaml.SafeLoader):
    """Plain data only; without aliases, by which a small file can expand to a huge one, and without repeated names."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "an alias (*name); write it out", yaml.parser.Parser.peek_event(self).start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a name stands twice", node.start_mark)
        return mapping


class _Content:
    """Entries of a plan, each read with a check."""

    def __init__(self, values: dict[Any, Any], folder: Path | None) -> None:
        self.values, self._folder = values, folder

    def path(self, value: Any, entry: str) -> Path:
        text = _text(value, entry, "a folder")
        if "://" in text:
            return location(text)
        path = Path(text).expanduser()
        if path.is_absolute():
            return path
        if self._folder is None:
            raise _PlanError(f"was uploaded, so {entry} must be an absolute path, found {str(path)!r}")
        pairs = (Path(f"{self._folder / first}{sign}{self._folder / second}") for first, sign, second in splits(text))
        return next(filter(split_pair, pairs), self._folder / path)

    def model(self, text: str, entry: str) -> Path:
        """A hub id as it is, where no such folder exists; else as :meth:`path`."""
        there = self._folder is not None and (self._folder / text).exists()
        return Path(text) if HUB_ID.fullmatch(text) and not there else self.path(text, entry)

    def word(self, name: str, default: str) -> str:
        value = self.values.get(name)
        return default if value is None else _text(value, name, "a name")

    def precision(self) -> str:
        value = self.word("probe_dtype", PROBE_DTYPES[0])
        if value not in PROBE_DTYPES:
            raise _PlanError(f"must give probe_dtype as one of {', '.join(PROBE_DTYPES)}, found {value!r}")
        return value

    def updates(self) -> tuple[tuple[str, Path], ...]:
        entries = self.values.get("updates")
        if not isinstance(entries, list) or not 0 < len(entries) <= MAX_UPDATES:
            raise _PlanError(f"must list one or more updates (name and path) under updates, found {_kind(entries)}")
        listed = []
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry, dict) or set(entry) - {"strength"} != {"name", "path"}:
                raise _PlanError(f"must give update {number} as name and path, found {_kind(entry)}")
            name = _text(entry["name"], f"the name of update {number}", "text")
            listed.append((name, self.path(entry["path"], f"the path of update {number}")))
        return tuple(listed)

    def strengths(self) -> dict[str, float]:
        """Of the updates that have another strength than 1; :meth:`updates` has checked their names."""
        strengths = {}
        for entry in self.values["updates"]:
            value = from_text(entry.get("strength", WHOLE))
            if not is_strength(value):
                found = _kind(entry["strength"])
                raise _PlanError(f"must give the strength of {entry['name'][:50]!r} as {RANGE}, found {found}")
            if value != WHOLE:
                strengths[entry["name"]] = float(value)
        return strengths

    def states(self) -> tuple[Path, ...]:
        entries = self.values.get("states")
        if entries is not None and not (isinstance(entries, list) and len(entries) <= MAX_UPDATES):
            raise _PlanError(f"must list the folders of the states under states, found {_kind(entries)}")
        return tuple(self.path(entry, f"state {number}") for number, entry in enumerate(entries or [], start=1))

    def settings(self) -> dict[str, Any]:
        values = self.values.get("settings")
        if values is None:
            return {}
        if not isinstance(values, dict):
            raise _PlanError(f"must map setting names to values under settings, found {_kind(values)}")
        settings = {}
        for key, value in values.items():
            name = _text(key, "the name of a setting", "text")
            if not isinstance(value, str | int | float | bool | None):
                raise _PlanError(f"must give setting {name} a number or a word, found {_kind(value)}")
            # YAML reads 1e-6 as text; a setting means the same here as on the command line.
            settings[name] = parse_setting(f"{name}={value}")[1] if isinstance(value, str) and value else value
        return settings


def _text(value: Any, entry: str, kind: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise _PlanError(f"must give {entry} as {kind} on one line (in quotes if it is a number), found {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", type(None): "nothing"}
    if isinstance(value, dict):
        return f"the entries {', '.join(str(key)[:20] for key in list(value)[:4])}" if value else "no entries"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, str):
        return repr(value[:50]) if value else "empty text"
    return names.get(type(value), f"the {type(value).__name__} {str(value)[:50]}")
