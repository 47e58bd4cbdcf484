"""The plug-ins that a run records, and the check that they are the same when it is resumed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gcwm_viz.errors import InputError
from gcwm_viz.plugins.loaded import Plugin, loaded


@dataclass(frozen=True)
class PluginEntry:
    """A plug-in in run.json: its name, version and digest, and which methods and signals it declares."""

    name: str
    version: str
    digest: str
    methods: tuple[str, ...]
    signals: tuple[str, ...]

    @classmethod
    def of(cls, plugin: Plugin) -> "PluginEntry":
        return cls(plugin.name, plugin.version, plugin.digest, plugin.methods, plugin.signals)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "PluginEntry":
        name, version, digest = (str(entry[key]) for key in ("name", "version", "digest"))
        return cls(name, version, digest, tuple(entry["methods"]), tuple(entry["signals"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def entries_for(method: str) -> tuple[PluginEntry, ...]:
    """Of every loaded plug-in that a run by ``method`` uses: it declares the method, or a signal."""
    return tuple(PluginEntry.of(plugin) for plugin in loaded() if plugin.signals or method in plugin.methods)


def check_method(method: str, entries: Sequence[PluginEntry], run: str) -> None:
    """Raises :class:`InputError` where the method is that of a plug-in which is not loaded."""
    names = {plugin.name for plugin in loaded()}
    for entry in entries:
        if method in entry.methods and entry.name not in names:
            raise InputError(f"{run} was merged by {method} of plug-in {entry.name}; expected --plugin with it")


def check_same(method: str, entries: Sequence[PluginEntry], run: str) -> None:
    """Raises :class:`InputError` unless the plug-ins of this process are, for a run by ``method``, its ``entries``:
    none missing, changed or added, so that the same code computes all its matrices."""
    current = {entry.name: entry for entry in entries_for(method)}
    for entry in entries:
        if entry.name not in current:
            raise InputError(f"{run} was started with plug-in {entry.name}; expected --plugin with it")
        if current[entry.name].digest != entry.digest:
            raise InputError(
                f"plug-in {entry.name} has changed since {run} started: expected the file of digest "
                f"{entry.digest[:16]}, found {current[entry.name].digest[:16]}"
            )
    added = sorted(current.keys() - {entry.name for entry in entries})
    if added:
        raise InputError(f"{run} was started without plug-in {added[0]}; expected the same plug-ins as at its start")
