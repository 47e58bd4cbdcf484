"""Settings of a sequence of updates: which stay active, how strongly each step is integrated."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import PRESETS, GCWMConfig
from gcwm_viz.merging.registry import get_method
from gcwm_viz.merging.settings import MethodSettings

Policy = Literal["all_history", "current_anchor"]
Keep = Literal["all", "last"]


@dataclass(frozen=True, kw_only=True)
class ContinualConfig:
    """Continual update (METHOD section 3). Raises :class:`InputError` for a setting out of range.

    policy: ``all_history`` keeps every earlier update active, or the last ``memory`` updates with the current one
        counted; ``current_anchor`` merges the previous merged update with the current one.
    keep: tensors of which steps stay on disk: ``all``, or only those of the ``last``, which takes a constant η.
    eta, decay: θ_t = θ_{t−1} + η·decay^{t−1} · Δ_inc. old_weight, new_weight: ω of earlier and current updates.
    """

    policy: Policy = "all_history"
    memory: int | None = None
    eta: float = 1.0
    decay: float = 1.0
    old_weight: float = 1.0
    new_weight: float = 1.0
    keep: Keep = "all"

    def __post_init__(self) -> None:
        if self.policy not in get_args(Policy):
            raise InputError(f"setting policy must be one of {', '.join(get_args(Policy))}, got {self.policy!r}")
        if self.memory is not None and (
            isinstance(self.memory, bool) or not isinstance(self.memory, int) or self.memory < 1
        ):
            raise InputError(f"setting memory must be an integer of at least 1 or none, got {self.memory!r}")
        if self.keep not in get_args(Keep):
            raise InputError(f"setting keep must be one of {', '.join(get_args(Keep))}, got {self.keep!r}")
        if self.keep == "last" and self.decay != 1.0:
            raise InputError(
                f"setting keep must be all where η decays, because every step enters S_T, got {self.keep!r}"
            )
        for name in ("eta", "decay", "new_weight"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
                raise InputError(f"setting {name} must be a finite number above 0, got {value!r}")
        if not isinstance(self.old_weight, int | float) or not 0 <= self.old_weight < float("inf"):
            raise InputError(f"setting old_weight must be a finite number of at least 0, got {self.old_weight!r}")

    def step_eta(self, step: int) -> float:
        """η_t of step 1, 2, …"""
        return self.eta * self.decay ** (step - 1)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """All settings of a run: merge method, per-matrix settings, continual settings, options of other methods."""

    method: str = "gcwm"
    preset: str = "scale-free"
    gcwm: GCWMConfig = field(default_factory=GCWMConfig)
    continual: ContinualConfig = field(default_factory=ContinualConfig)
    options: MethodSettings = field(default_factory=MethodSettings)

    @classmethod
    def preset_with(cls, preset: str, overrides: Mapping[str, Any], method: str = "gcwm") -> "RunSettings":
        """A preset with single settings replaced; the names are those of the three configurations.

        η is the preset's for the methods that the preset is about, and the method's own default for the others.
        """
        gcwm = GCWMConfig.preset(preset).to_dict()
        eta = get_method(method).eta
        continual = asdict(ContinualConfig(eta=PRESET_ETA[preset] if eta is None else eta))
        options = MethodSettings().to_dict()
        for name, value in overrides.items():
            if name in gcwm:
                gcwm[name] = value
            elif name in continual:
                continual[name] = value
            elif name in options:
                options[name] = value
            else:
                known = ", ".join([*gcwm, *continual, *options])
                raise InputError(f"unknown setting {name!r}; known are {known}")
        return cls(
            method=method,
            preset=preset,
            gcwm=GCWMConfig(**gcwm),
            continual=ContinualConfig(**continual),
            options=MethodSettings(**options),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RunSettings":
        unknown = sorted(set(values) - {entry.name for entry in fields(cls)})
        if unknown:
            raise InputError(f"unknown run setting {unknown[0]!r}")
        return cls(
            method=values["method"],
            preset=values["preset"],
            gcwm=GCWMConfig.from_dict(values["gcwm"]),
            continual=ContinualConfig(**values["continual"]),
            options=MethodSettings.from_dict(values.get("options", {})),
        )


# The paper sweeps η around 0.1 and the released launcher uses 0.2; the exact solver is at its best near 1.
PRESET_ETA = {"scale-free": 1.0, "paper": 0.1, "release": 0.2}
assert PRESET_ETA.keys() == PRESETS.keys()


def parse_setting(text: str) -> tuple[str, Any]:
    """``key=value`` from a command line: integers, numbers, ``none`` and words. Raises :class:`InputError`."""
    key, separator, raw = text.partition("=")
    if not separator or not key or not raw:
        raise InputError(f"a setting is written key=value, got {text!r}")
    if raw.lower() == "none" and key != "gate":
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
            found = difference(old, new, f"{prefix}{name}.")
            if found:
                return found
        elif old != new:
            return f"{prefix}{name} was {str(old)[:50]}, is {str(new)[:50]}"
    return ""
