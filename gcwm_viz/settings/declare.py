"""A setting is declared once: its default, range, unit and meaning stand in the field of a frozen dataclass.

Validation, the round trip through JSON and YAML, ``--help``, the form of the page Start and docs/settings.md read that
declaration.

    @dataclass(frozen=True, kw_only=True)
    class TrimSettings(Settings):
        trim_keep: float = number(0.2, "share of entries kept", above=0, most=1)
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self, get_args

from gcwm_viz.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting. ``kind``: int, float or str. ``least``, ``most``: bounds that belong to the range; ``above``,
    ``below``: bounds that do not. ``choices``: the words allowed, of a setting of kind str. ``optional``: whether None
    is allowed."""

    name: str = ""
    default: Any = None
    meaning: str
    kind: type
    unit: str = ""
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False

    @property
    def range(self) -> str:
        """Allowed values in words, as an error and the documentation name them."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind is int:
            most = "" if self.most is None else f" and at most {self.most}"
            return f"an integer of at least {self.least}{most}{' or none' * self.optional}"
        left = f"[{self.least:g}" if self.least is not None else "(-inf" if self.above is None else f"({self.above:g}"
        right = f"{self.most:g}]" if self.most is not None else "inf)" if self.below is None else f"{self.below:g})"
        return f"a finite number in {left}, {right}{' or none' * self.optional}"

    def check(self, value: Any) -> None:
        """Raises :class:`InputError` for a value that is not allowed."""
        if not (self.optional and value is None) and not self._allows(value):
            raise InputError(f"setting {self.name} must be {self.range}, got {value!r}")

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return isinstance(value, str) and value in self.choices
        number = isinstance(value, int) if self.kind is int else isinstance(value, int | float)
        return (
            number
            and not isinstance(value, bool)
            and abs(value) < float("inf")
            and (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )


_KEY = "setting"


def number(default: float | None, meaning: str, **limits: Any) -> Any:
    """A field for a finite number; ``limits`` as :class:`Setting` names them."""
    return field(default=default, metadata={_KEY: Setting(meaning=meaning, kind=float, **limits)})


def integer(default: int | None, meaning: str, *, least: int = 1, **limits: Any) -> Any:
    """A field for an integer."""
    return field(default=default, metadata={_KEY: Setting(meaning=meaning, kind=int, least=least, **limits)})


def choice(default: str, meaning: str, words: Any) -> Any:
    """A field for one word of ``words``, a ``Literal``."""
    return field(default=default, metadata={_KEY: Setting(meaning=meaning, kind=str, choices=get_args(words))})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of every group of settings; alone, the group of a merge method that has none.

    Raises :class:`InputError` at construction, naming the setting, what was expected and what was found.
    """

    def __post_init__(self) -> None:
        for setting in self.declared():
            setting.check(getattr(self, setting.name))

    @classmethod
    def declared(cls) -> Iterator[Setting]:
        """The settings of this group in order, each with its name and default."""
        for entry in fields(cls):
            yield replace(entry.metadata[_KEY], name=entry.name, default=entry.default)

    @classmethod
    def names(cls) -> list[str]:
        return [entry.name for entry in fields(cls)]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Raises :class:`InputError` for a name that is not declared here, or a value out of range."""
        unknown = sorted(set(values) - set(cls.names()))
        if unknown:
            raise InputError(f"unknown setting {unknown[0]!r}; known are {', '.join(cls.names())}")
        return cls(**values)
