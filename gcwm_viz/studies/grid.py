"""The grid of a study: values of settings, and the points of their product."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from gcwm_viz.continual.config import RunSettings, parse_setting
from gcwm_viz.continual.sequence import AFTER_MERGE
from gcwm_viz.errors import InputError

Grid = Mapping[str, Sequence[Any]]
"""Values by setting."""


@dataclass(frozen=True)
class Point:
    """One point of a grid: its values, the complete settings, and the name of its merge."""

    values: dict[str, Any]
    settings: RunSettings
    merge: str

    @property
    def name(self) -> str:
        """Its values as a file name."""
        return _file_name(self.values)


def grid_points(grid: Grid, method: str, preset: str, fixed: Mapping[str, Any] | None = None) -> list[Point]:
    """The product of the grid's values in their order, the last setting fastest; a grid without settings has one point.

    ``fixed``: other settings of the preset to replace. Raises :class:`InputError` for an unknown method or setting, a
    value out of range, and a setting both in the grid and fixed.
    """
    fixed = fixed or {}
    twice = sorted(grid.keys() & fixed.keys())
    if twice:
        raise InputError(f"setting {twice[0]!r} is both in the grid and fixed")
    points = []
    for combination in product(*grid.values()):
        values = dict(zip(grid, combination, strict=True))
        settings = {**fixed, **values}
        merge = {name: value for name, value in settings.items() if name not in AFTER_MERGE}
        points.append(Point(values, RunSettings.preset_with(preset, settings, method), _file_name(merge) or "default"))
    return points


def parse_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """``key=value,value,…`` items of a command line. Raises :class:`InputError` for a setting without a value."""
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        if key in grid:
            raise InputError(f"setting {key!r} is in the grid twice")
        grid[key] = [parse_setting(f"{key}={value}")[1] for value in values.split(",")]
    return grid


def distinct(values: Sequence[Any]) -> bool:
    """Whether all values differ, as a command line writes them."""
    return len(set(map(word, values))) == len(values)


def word(value: Any) -> str:
    """A value as a command line writes it."""
    return "none" if value is None else str(value)


def pairs(values: Mapping[str, Any]) -> list[str]:
    """``key=value`` of each setting."""
    return [f"{key}={word(value)}" for key, value in values.items()]


def _file_name(values: Mapping[str, Any]) -> str:
    text = ",".join(pairs(dict(sorted(values.items()))))
    if len(text) <= 120 and not set(text) & set("/\\\0"):
        return text
    return hashlib.sha256(text.encode()).hexdigest()[:16]
