"""run.json: inputs, matrices and settings of a run. It is read as untrusted input."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.header import read_json_object
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import location
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.errors import InputError
from gcwm_viz.plugins.record import PluginEntry, check_method
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update
from gcwm_viz.updates.strength import RANGE, WHOLE, is_strength

SCHEMA = 1
FORMAT = "gcwm_viz.run"
MAX_UPDATES = 10_000
MAX_MATRICES = 200_000
MAX_PLUGINS = 1_000
PROBE_DTYPES = ("float32", "bfloat16", "float16")
"""Precisions in which a model can be probed, the default first."""


@dataclass(frozen=True, kw_only=True)
class InputEntry:
    """One input: the base, which has neither name nor kind, an update or a given state. ``where``: its folder or URL;
    ``fingerprint``: sha256 (hex) when the run started; ``kind`` and ``strength``: as in ``UpdateSource``."""

    name: str = ""
    where: str
    kind: str = ""
    fingerprint: str
    strength: float = WHOLE
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where to read from. Raises :class:`InputError` as :func:`location` does, for a URL without a driver; the run
        can be opened nevertheless."""
        return location(self.where)

    @property
    def folder(self) -> str:
        """The last part of the path, which reveals nothing about the machine."""
        return self.where.rstrip("/").rpartition("/")[2]

    def open(self, base: CheckpointIndex) -> UpdateSource:
        """The update or state at its strength. Raises :class:`InputError` as :func:`open_update` does."""
        return open_update(self.name, self.path, base, self.strength)

    def to_json(self) -> dict[str, Any]:
        values = {"name": self.name, "path": self.where, "kind": self.kind, "fingerprint": self.fingerprint}
        strength = {} if self.strength == WHOLE else {"strength": self.strength}
        return {key: value for key, value in values.items() if value} | strength | dict(self.other)


@dataclass(frozen=True, kw_only=True)
class ProbeEntry:
    """The probes of a run. ``where``: their folder, None without any; ``fingerprint``: absent in runs of an earlier
    version; ``dtype``: precision of the probed models; ``memory``: bytes that one model needs, None if unknown."""

    where: str | None = None
    fingerprint: str | None = None
    dtype: str = PROBE_DTYPES[0]
    memory: int | None = None

    @property
    def path(self) -> Path:
        """The folder, for a run with probes."""
        assert self.where is not None
        return location(self.where)


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """The content of run.json. ``states``: those of a training pipeline, else none; ``choice``: of the target matrices;
    ``matrices``: those that an update changes, in model order;
    ``eta_tried``: None where η was given; where the run chooses it on its development probes, every η that was tried,
    none before that; ``notes``: remarks on the inputs; ``plugins``: those it was started with, which are named here and
    not loaded; ``other``: entries that this version does not know."""

    name: str | None = None
    base: InputEntry
    updates: tuple[InputEntry, ...]
    states: tuple[InputEntry, ...] = ()
    probes: ProbeEntry = field(default_factory=ProbeEntry)
    choice: Choice = field(default_factory=Choice)
    matrices: tuple[MatrixKey, ...]
    settings: RunSettings
    eta_tried: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    plugins: tuple[PluginEntry, ...] = ()
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def strengths(self) -> dict[str, float]:
        """Strength by update, of those that have another than 1."""
        return {entry.name: entry.strength for entry in self.updates if entry.strength != WHOLE}

    @property
    def lacks_eta(self) -> bool:
        """Whether η is still to be chosen; what ``settings`` has is the default."""
        return self.eta_tried == ()

    @classmethod
    def read(cls, run: Path) -> "RunFile":
        """RUN/run.json. Descriptive entries (name, kind, notes, versions), and those that earlier versions did not
        write, may be absent; entries that enter the computation may not.

        Raises :class:`InputError` for a folder that is not a run, another schema, and an entry missing or wrong.
        """
        file = run / "run.json"
        if not file.is_file():
            raise InputError(f"{run} is not a run folder: it has no run.json")
        values = read_json_object(file, "run.json")
        if values.pop("format", None) != FORMAT:
            raise InputError(f"{file} does not describe a run: expected format {FORMAT!r}")
        schema = values.pop("schema", None)
        if schema != SCHEMA:
            raise InputError(f"{file} has schema {str(schema)[:50]}; this version reads schema {SCHEMA}")
        try:
            plugins = _plugins(values.pop("plugins", []))
            check_method(_method(values), plugins, f"run {run}")
            return replace(_run_file(values), plugins=plugins)
        except _EntryError as error:
            raise InputError(f"{file} lacks or garbles an entry: {error}") from None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "schema": SCHEMA,
            "name": self.name,
            "base": self.base.to_json(),
            "updates": [entry.to_json() for entry in self.updates],
            "states": [entry.to_json() for entry in self.states],
            "probes": self.probes.where,
            "probes_fingerprint": self.probes.fingerprint,
            "probe_dtype": self.probes.dtype,
            "probe_memory": self.probes.memory,
            **({"targets": chosen} if (chosen := self.choice.to_json()) else {}),
            "matrices": [asdict(key) for key in self.matrices],
            "settings": self.settings.to_dict(),
            **({} if self.eta_tried is None else {"eta_tried": list(self.eta_tried)}),
            "notes": list(self.notes),
            "versions": dict(self.versions),
            **({"plugins": [entry.to_json() for entry in self.plugins]} if self.plugins else {}),
            **self.other,
        }


class _EntryError(Exception):
    pass


def _run_file(values: dict[str, Any]) -> RunFile:
    """Removes the known entries from ``values``; ``other`` is the rest."""
    updates, states = _inputs(values.pop("updates", None), "updates"), _inputs(values.pop("states", []), "states")
    _expect(not states or all(e.strength == WHOLE for e in (*updates, *states)), "states", "no strength beside states")
    _expect(len({entry.name for entry in updates}) == len(updates), "updates", "a name only once")
    _expect(len(states) in (0, len(updates)), "states", "none or one an update")
    matrices = _sequence(values.pop("matrices", None), "matrices", MAX_MATRICES)
    name, notes, versions = values.pop("name", None), values.pop("notes", []), values.pop("versions", {})
    _expect(name is None or isinstance(name, str), "name", "text or null")
    _expect(isinstance(notes, list) and all(isinstance(note, str) for note in notes), "notes", "a list of texts")
    _expect(isinstance(versions, dict) and all(map(_is_text, versions.values())), "versions", "texts by name")
    return RunFile(
        name=name,
        base=_input(values.pop("base", None), "base", ("path", "fingerprint")),
        updates=updates,
        states=states,
        probes=_probes(values),
        choice=_choice(values.pop("targets", {})),
        matrices=tuple(_matrix(entry, f"matrices[{index}]") for index, entry in enumerate(matrices)),
        settings=_settings(values.pop("settings", None)),
        eta_tried=_etas(values.pop("eta_tried", None)),
        notes=tuple(notes),
        versions=versions,
        other=values,
    )


def _inputs(entries: Any, kind: str) -> tuple[InputEntry, ...]:
    entries = _sequence(entries, kind, MAX_UPDATES)
    required = ("name", "path", "fingerprint")
    return tuple(_input(entry, f"{kind}[{index}]", required) for index, entry in enumerate(entries))


def _input(entry: Any, path: str, required: tuple[str, ...]) -> InputEntry:
    _texts(entry, path, required)
    declared = ("name", "path", "kind", "fingerprint")
    name, where, kind, fingerprint = (entry.get(key, "") for key in declared)
    _expect(isinstance(name, str) and isinstance(kind, str), path, "name and kind as text")
    strength = entry.get("strength", WHOLE)
    _expect(is_strength(strength), f"{path}.strength", RANGE)
    other = {key: value for key, value in entry.items() if key not in (*declared, "strength")}
    return InputEntry(name=name, where=where, kind=kind, fingerprint=fingerprint, strength=float(strength), other=other)


def _probes(values: dict[str, Any]) -> ProbeEntry:
    where, fingerprint = values.pop("probes", None), values.pop("probes_fingerprint", None)
    for name, value in (("probes", where), ("probes_fingerprint", fingerprint)):
        _expect(value is None or _is_text(value), name, "text or null")
    dtype, memory = values.pop("probe_dtype", PROBE_DTYPES[0]), values.pop("probe_memory", None)
    _expect(dtype in PROBE_DTYPES, "probe_dtype", " or ".join(PROBE_DTYPES))
    _expect(memory is None or _is_count(memory, 0, 2**62), "probe_memory", "a number of bytes")
    return ProbeEntry(where=where, fingerprint=fingerprint, dtype=dtype, memory=memory)


def _choice(entry: Any) -> Choice:
    expected = [field.name for field in fields(Choice)]
    _expect(isinstance(entry, dict) and entry.keys() <= {*expected}, "targets", f"an object of {expected}")
    _texts(entry, "targets", tuple(entry))
    return Choice(**entry)


def _matrix(entry: Any, path: str) -> MatrixKey:
    expected = {field.name for field in fields(MatrixKey)}
    _expect(isinstance(entry, dict) and expected - {"transposed"} <= entry.keys() <= expected, path, sorted(expected))
    _texts(entry, path, ("name", "family"))
    _expect(_is_count(entry["layer"], 0), f"{path}.layer", "a layer number")
    shape = entry["shape"]
    _expect(
        isinstance(shape, list) and len(shape) == 2 and all(_is_count(side, 1) for side in shape),
        f"{path}.shape",
        "two sides",
    )
    _expect(isinstance(entry.get("transposed", False), bool), f"{path}.transposed", "true or false")
    return MatrixKey(**entry | {"shape": tuple(shape)})


def _plugins(entries: Any) -> tuple[PluginEntry, ...]:
    plugins = []
    for index, entry in enumerate(_sequence(entries, "plugins", MAX_PLUGINS)):
        _texts(entry, f"plugins[{index}]", ("name", "digest"))
        for names in ("methods", "signals"):
            listed = _sequence(entry.get(names), f"plugins[{index}].{names}", MAX_PLUGINS)
            _expect(all(map(_is_text, listed)), f"plugins[{index}].{names}", "printable texts")
        plugins.append(PluginEntry.from_json({"version": "", **entry}))
    return tuple(plugins)


def _method(values: Mapping[str, Any]) -> str:
    settings: Any = values.get("settings")
    _texts(settings, "settings", ("method", "preset"))
    return str(settings["method"])


def _settings(values: Any) -> RunSettings:
    _texts(values, "settings", ("method", "preset"))
    try:
        return RunSettings.from_dict(values)
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _EntryError(f"settings, {error!r}") from None


def _etas(values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    tried = _sequence(values, "eta_tried", 100)
    finite = all(type(eta) in (int, float) and 0 < eta < math.inf for eta in tried)
    _expect(finite, "eta_tried", "positive numbers")
    return tuple(map(float, tried))


def _sequence(value: Any, name: str, limit: int) -> list[Any]:
    _expect(isinstance(value, list) and len(value) <= limit, name, f"a list of at most {limit}")
    return list(value)


def _texts(entry: Any, path: str, names: tuple[str, ...]) -> None:
    _expect(isinstance(entry, dict), path, "an object")
    for name in names:
        _expect(_is_text(entry.get(name)), f"{path}.{name}", "printable text")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 4096 and value.isprintable()


def _is_count(value: Any, least: int, limit: int = 2**31) -> bool:
    return type(value) is int and least <= value < limit


def _expect(true: bool, path: str, expected: object) -> None:
    if not true:
        raise _EntryError(f"{path}, expected {expected}")
