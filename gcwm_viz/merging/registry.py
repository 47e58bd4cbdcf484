"""The merge methods by name: those declared in ``merging/methods``, newest on arXiv first, then those of plug-ins."""

from importlib import import_module
from pkgutil import iter_modules

from gcwm_viz.errors import InputError
from gcwm_viz.merging import methods
from gcwm_viz.merging.merge import MergeMethod

METHODS: dict[str, MergeMethod] = {}


def register(method: MergeMethod) -> None:
    """Raises :class:`InputError` for a name that another method has."""
    if METHODS.setdefault(method.name, method) is not method:
        raise InputError(f"merge method {method.name!r} is there already, from {METHODS[method.name].source}")


def get_method(name: str) -> MergeMethod:
    """Raises :class:`InputError` for an unknown name."""
    if name not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]


def _declared() -> list[MergeMethod]:
    modules = [import_module(f"{methods.__name__}.{module.name}") for module in iter_modules(methods.__path__)]
    own = [value for module in modules for value in vars(module).values() if isinstance(value, MergeMethod)]
    return sorted(own, key=lambda method: (method.source, method.name), reverse=True)


for _method in _declared():
    register(_method)
