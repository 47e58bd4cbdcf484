"""Loading plug-ins: merge methods and signals from installed packages and from files that the user names.

An installed package declares entry points in the groups ``gcwm_viz.methods`` and ``gcwm_viz.signals``, each a
:class:`~gcwm_viz.merging.merge.MergeMethod` or a :class:`~gcwm_viz.signals.signal.Signal`. ``--plugin`` takes a Python
file or an importable module, whose public names of these types are taken. A plug-in is code and runs as such: it is
loaded because it is installed, or because the user who starts the process names it, never because a checkpoint, a run
folder or a plan does.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable
from importlib import import_module, metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Generic, TypeVar

from gcwm_viz.errors import InputError
from gcwm_viz.merging import registry
from gcwm_viz.merging.merge import MergeMethod
from gcwm_viz.plugins.loaded import GROUPS, LOADED, Plugin, loaded
from gcwm_viz.signals import catalogue
from gcwm_viz.signals.signal import Signal


def load(spec: str) -> Plugin:
    """Load a Python file or a module by its name and register what it declares; a second call does nothing.

    Raises :class:`InputError` where there is none, its code fails, it declares nothing, or a name is taken.
    """
    file = Path(spec).expanduser()
    is_file = file.suffix == ".py"
    spec, name = (str(file.absolute()), file.name) if is_file else (spec, spec)
    if name in LOADED:
        if LOADED[name].spec != spec:
            raise InputError(f"plug-in {spec}: another one of the same name is loaded already, {LOADED[name].spec}")
        return LOADED[name]
    module = _module(spec, file if is_file else None)
    public = [value for key, value in vars(module).items() if not key.startswith("_")]
    own = {id(value): value for value in public if isinstance(value, MergeMethod | Signal)}
    return _register(spec, name, _digest(module), getattr(module, "__version__", ""), list(own.values()))


def load_installed() -> None:
    """Load what installed packages declare; a second call does nothing. Raises :class:`InputError` as :func:`load`."""
    entries: dict[str, list[metadata.EntryPoint]] = {}
    for group in GROUPS:
        for entry in metadata.entry_points(group=group):
            entries.setdefault(entry.dist.name if entry.dist else entry.module, []).append(entry)
    for name in sorted(entries.keys() - LOADED.keys()):
        declared: list[MergeMethod | Signal] = []
        for entry in entries[name]:
            try:
                value = entry.load()
            except Exception as error:
                raise InputError(f"plug-in {name}: {entry.value} cannot be loaded ({_words(error)})") from None
            if not isinstance(value, MergeMethod | Signal):
                raise InputError(
                    f"plug-in {name}: expected {entry.value} to be a merge method or a signal, found {value!r}"
                )
            declared.append(value)
        first = entries[name][0]
        version = first.dist.version if first.dist else ""
        _register(name, name, _digest(sys.modules[first.module]), version, declared, installed=True)


def _module(spec: str, file: Path | None) -> ModuleType:
    try:
        if file is None:
            return import_module(spec)
        if not file.is_file():
            raise InputError(f"plug-in {spec}: there is no such file")
        # Its own name in sys.modules, so that what it defines can be sent to worker processes.
        name = f"gcwm_viz_plugin_{file.stem}"
        module_spec = spec_from_file_location(name, file)
        assert module_spec is not None
        assert module_spec.loader is not None
        module = module_from_spec(module_spec)
        sys.modules[name] = module
        module_spec.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"plug-in {spec} cannot be loaded ({_words(error)})") from None
    return module


def _register(
    spec: str, name: str, digest: str, version: str, declared: Iterable[MergeMethod | Signal], installed: bool = False
) -> Plugin:
    methods = [value for value in declared if isinstance(value, MergeMethod)]
    signals = [value for value in declared if isinstance(value, Signal)]
    if not methods and not signals:
        raise InputError(f"plug-in {spec}: expected a merge method or a signal among its public names, found neither")
    for signal in signals:
        if signal.of is None:
            raise InputError(f"plug-in {spec}: signal {signal.column!r} has no value, expected a function under of")
    others = dict(registry.METHODS), dict(catalogue.SIGNALS)
    try:
        for method in methods:
            registry.register(method)
        for signal in signals:
            catalogue.register(signal)
    except InputError:  # all of a plug-in, or nothing of it
        registry.METHODS.clear()
        registry.METHODS.update(others[0])
        catalogue.SIGNALS.clear()
        catalogue.SIGNALS.update(others[1])
        raise
    LOADED[name] = Plugin(
        spec, name, str(version), digest, tuple(m.name for m in methods), tuple(s.column for s in signals), installed
    )
    return LOADED[name]


def _digest(module: ModuleType) -> str:
    file = Path(module.__file__ or "")
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    for source in files:
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


Value = TypeVar("Value")


class WithPlugins(Generic[Value]):
    """``work`` for another process, which first loads the plug-ins of this one, each with the same digest."""

    def __init__(self, work: Callable[..., Value]) -> None:
        self._work, self._plugins = work, loaded()

    def __call__(self, *arguments: object) -> Value:
        for plugin in self._plugins:
            if plugin.name not in LOADED:
                if plugin.installed:
                    load_installed()
                else:
                    load(plugin.spec)
            local = LOADED.get(plugin.name)
            if local is None or local.digest != plugin.digest:
                state = "missing" if local is None else "another version"
                raise InputError(
                    f"plug-in {plugin.name}: {state} where this worker runs, expected {plugin.digest[:16]}"
                )
        return self._work(*arguments)
