"""All settings of a run, and their form on a command line."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from gcwm_viz.continual.sequence import ContinualConfig
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import DEFAULT_PRESET, GCWMConfig, get_preset
from gcwm_viz.merging import DEFAULT_METHOD
from gcwm_viz.merging.registry import METHODS, get_method
from gcwm_viz.settings.declare import Setting, Settings

AUTO = "auto"
"""What stands for an η that the run chooses on its development probes."""


def fixed(single: Mapping[str, Any]) -> dict[str, Any]:
    """Single settings without an η that is to be chosen."""
    return {name: value for name, value in single.items() if (name, value) != ("eta", AUTO)}


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All settings of a run: merge method, per-matrix settings, those of the sequence, and the method's own."""

    method: str = DEFAULT_METHOD
    preset: str = DEFAULT_PRESET
    gcwm: GCWMConfig = field(default_factory=GCWMConfig)
    continual: ContinualConfig = field(default_factory=ContinualConfig)
    options: Settings = field(default_factory=Settings)

    @classmethod
    def preset_with(cls, preset: str, overrides: Mapping[str, Any], method: str = DEFAULT_METHOD) -> "RunSettings":
        """A preset with single settings replaced; the names are those of the three groups.

        η is the preset's for methods without a default of their own, else the method's. A setting of another method is
        checked but has no effect, so that one grid can serve a sweep over methods.
        """
        chosen, merge = get_preset(preset), get_method(method)
        eta = chosen.eta if merge.eta is None else merge.eta
        groups: list[tuple[type[Settings], dict[str, Any]]] = [
            (GCWMConfig, dict(chosen.geometry)),
            (ContinualConfig, {"eta": eta}),
            (merge.settings, {}),
        ]
        foreign = _options_of_methods()
        for name, value in overrides.items():
            values = next((values for group, values in groups if name in group.names()), None)
            if values is not None:
                values[name] = value
            elif name in foreign:
                foreign[name].check(value)
            else:
                names = [*GCWMConfig.names(), *ContinualConfig.names(), *foreign]
                raise InputError(f"unknown setting {name!r}; known are {', '.join(names)}")
        gcwm, continual, options = (group(**values) for group, values in groups)
        assert isinstance(gcwm, GCWMConfig)
        assert isinstance(continual, ContinualConfig)
        return cls(method=method, preset=preset, gcwm=gcwm, continual=continual, options=options)

    def at_eta(self, eta: float) -> "RunSettings":
        """The same with another η."""
        return replace(self, continual=replace(self.continual, eta=eta))

    def single(self) -> dict[str, Any]:
        """Every setting's value by the name that ``--set`` takes."""
        return {**self.gcwm.to_dict(), **self.continual.to_dict(), **self.options.to_dict()}

    def declared(self) -> dict[str, Setting]:
        """The declaration of every setting by that name."""
        return {each.name: each for group in (self.gcwm, self.continual, self.options) for each in group.declared()}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunSettings":
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise InputError(f"unknown run setting {unknown[0]!r}")
        own = get_method(values["method"]).settings
        # Earlier versions stored the settings of every method.
        foreign = _options_of_methods().keys() - set(own.names())
        return cls(
            method=values["method"],
            preset=values["preset"],
            gcwm=GCWMConfig.from_dict(values["gcwm"]),
            continual=ContinualConfig(**values["continual"]),
            options=own.from_dict({name: v for name, v in values.get("options", {}).items() if name not in foreign}),
        )


def as_written_now(settings: Any) -> Any:
    """Settings of a run folder as this version writes them; unchanged where they cannot be read."""
    try:
        return RunSettings.from_dict(settings).to_dict()
    except (InputError, KeyError, TypeError, AttributeError):
        return settings


def _options_of_methods() -> dict[str, Setting]:
    """The own settings of every method by name."""
    return {each.name: each for method in METHODS.values() for each in method.settings.declared()}


_NONE_IS_A_WORD = {
    each.name for group in (GCWMConfig, ContinualConfig) for each in group.declared() if "none" in each.choices
}


def parse_setting(text: str) -> tuple[str, Any]:
    """``key=value`` from a command line: integers, numbers, ``none`` and words. Raises :class:`InputError`."""
    key, separator, raw = text.partition("=")
    if not separator or not key or not raw:
        raise InputError(f"a setting is written key=value, got {text!r}")
    if raw.lower() == "none" and key not in _NONE_IS_A_WORD:
        return key, None
    for kind in (int, float):
        try:
            return key, kind(raw)
        except ValueError:
            continue
    return key, raw


def difference(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> str:
    """The first entry in which two nested settings differ, in words; empty where they agree."""
    for name in sorted(before.keys() | after.keys(), key=str):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inside = difference(old, new, f"{prefix}{name}.")
            if inside:
                return inside
        elif old != new:
            return f"{prefix}{name} was {str(old)[:50]}, is {str(new)[:50]}"
    return ""
