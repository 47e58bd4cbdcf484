"""The plug-ins of this process. Apart from their loading, so that asking costs no import of what they extend."""

from dataclasses import dataclass, field
from importlib import metadata

GROUPS = ("gcwm_viz.methods", "gcwm_viz.signals")


@dataclass(frozen=True)
class Plugin:
    """A loaded plug-in. ``spec``: the module, or the file's absolute path; ``name``: the same without folders.

    ``digest``: SHA-256 of its file, or of every Python file of a package. ``methods``, ``signals``: names it declares.
    """

    spec: str
    name: str
    version: str
    digest: str
    methods: tuple[str, ...] = ()
    signals: tuple[str, ...] = ()
    installed: bool = field(default=False, compare=False)


LOADED: dict[str, Plugin] = {}


def loaded() -> tuple[Plugin, ...]:
    """Every plug-in of this process, by name."""
    return tuple(LOADED[name] for name in sorted(LOADED))


def is_installed() -> bool:
    """Whether any installed package declares one."""
    return any(metadata.entry_points(group=group) for group in GROUPS)
