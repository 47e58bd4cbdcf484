"""The settings that ``--set`` takes, from their declarations: for --help, the command ``methods``, docs/settings.md."""

import shutil
import textwrap
from collections.abc import Iterable
from functools import cache
from typing import Any

from gcwm_viz.continual.sequence import ContinualConfig
from gcwm_viz.geometry.config import DEFAULT_PRESET, PRESETS, GCWMConfig
from gcwm_viz.settings.declare import Setting, Settings

SHARED: dict[str, type[Settings]] = {
    "Geometry, gate and merge of a matrix": GCWMConfig,
    "Sequence of updates": ContinualConfig,
}
"""Groups of settings that every merge method has, by title."""
_HEAD = f"""# Settings

Written by `gcwm-viz methods --settings` from the declarations. `--set NAME=VALUE` changes one of them. The
defaults are those of the preset `{DEFAULT_PRESET}`; the other presets change:

| preset | settings |
|---|---|"""


def listed(settings: Iterable[Setting], indent: int) -> str:
    """One paragraph a setting, as wide as the terminal."""
    width, margin = shutil.get_terminal_size().columns - 2, " " * indent
    texts = (f"{each.name} [{_word(each.default)}]: {_meaning(each)}; {each.range}" for each in settings)
    return "\n".join(
        textwrap.fill(text, width, initial_indent=margin, subsequent_indent=margin + "  ") for text in texts
    )


@cache
def epilog() -> str:
    """The shared settings, for the end of a command's help."""
    shared = "\n".join(listed(group.declared(), 2) for group in SHARED.values())
    return f"settings [default under {DEFAULT_PRESET}], those of a method by `methods`:\n{shared}"


def markdown() -> str:
    """docs/settings.md: a table for each shared group and for each merge method with settings of its own."""
    from gcwm_viz.merging.registry import METHODS

    changes = {
        name: {**preset.geometry, "eta": preset.eta} for name, preset in PRESETS.items() if name != DEFAULT_PRESET
    }
    presets = [f"| `{name}` | {_assignments(values)} |" for name, values in changes.items()]
    own = {f"`{method.name}`: {method.summary}": method.settings for method in METHODS.values()}
    tables = [_table(title, list(group.declared())) for title, group in (SHARED | own).items()]
    return "\n\n".join(["\n".join([_HEAD, *presets]), *filter(None, tables)])


def _table(title: str, settings: list[Setting]) -> str:
    if not settings:
        return ""
    rows = [(f"`{each.name}`", _word(each.default), each.range, _meaning(each)) for each in settings]
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join([f"## {title}", "", "| name | default | range | meaning |", "|---|---|---|---|", *lines])


def _assignments(values: dict[str, Any]) -> str:
    return ", ".join(f"`{name}={_word(value)}`" for name, value in values.items())


def _meaning(setting: Setting) -> str:
    return f"{setting.meaning}, in {setting.unit}" if setting.unit else setting.meaning


def _word(value: Any) -> str:
    """A value as ``--set`` takes it."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
