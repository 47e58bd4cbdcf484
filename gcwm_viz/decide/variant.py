"""A variant of a run's final merge: other updates, order, strengths, η, gate or coefficients, and its form in a link.

    run                                      as the run merged
    1_past~0.5_capital                       two updates in this order, the second at half its strength
    ~~0.7_eta~none_gate~calibrated           all updates of the run, other settings, its calibrated coefficients

Only characters that an address keeps as they are; other characters of a name are percent-encoded.
"""

from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.plan import plan_of
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.studies.regate import check_regatable
from gcwm_viz.updates.strength import WHOLE, checked, from_text, in_words

AS_RUN = "run"
GATE = {"gate": "gate", "tau": "τ", "kappa": "κ", "alpha_min": "lowest α", "alpha_max": "highest α"}
"""Settings of the gate that a variant may change, with their names in sentences."""
_CALIBRATED = "calibrated"


@dataclass(frozen=True)
class Variant:
    """``updates``: name and strength of each, in order, on top of the strength that the run takes it at. ``settings``:
    the run's, but for η and the gate. ``calibrated``: whether the run's calibrated coefficients are applied."""

    updates: tuple[tuple[str, float], ...]
    settings: RunSettings
    calibrated: bool = False

    @classmethod
    def as_run(cls, store: RunStore) -> "Variant":
        return cls(tuple((name, WHOLE) for name in store.updates), store.settings)

    def at(self, **changes: Any) -> "Variant":
        """With another η or another gate. Raises :class:`InputError` for a value out of range."""
        settings = self.settings
        if "eta" in changes:
            settings = settings.at_eta(changes.pop("eta"))
        gcwm = GCWMConfig.from_dict(settings.gcwm.to_dict() | changes)
        return replace(self, settings=replace(settings, gcwm=gcwm))

    def changes(self, store: RunStore) -> dict[str, Any]:
        """η and settings of the gate that differ from the run's."""
        own, run = self.settings.single(), store.settings.single()
        return {name: own[name] for name in ("eta", *GATE) if own[name] != run[name]}

    def text(self, store: RunStore) -> str:
        """The form in a link, from which :func:`parse` reads the same variant."""
        same = self.updates == Variant.as_run(store).updates
        updates = (
            [] if same else [f"{_number(s)}_{quote(name, safe='').replace('~', '%7E')}" for name, s in self.updates]
        )
        settings = [f"{_number(value)}_{name}" for name, value in self.changes(store).items()]
        settings += [_CALIBRATED] * self.calibrated
        parts = ["~".join(updates), "~".join(settings)]
        return "~~".join(parts if settings else parts[:1]) or AS_RUN

    def words(self, store: RunStore) -> str:
        """What differs from the run."""
        names = [name for name, _ in self.updates]
        left_out = [name for name in store.updates if name not in names]
        moved = names != [name for name in store.updates if name in names]
        strengths = {name: strength for name, strength in self.updates if strength != WHOLE}
        parts = [f"without {', '.join(left_out)}"] if left_out else []
        parts += [f"in the order {', '.join(names)}"] if moved else []
        parts += [f"strength of {in_words(strengths)}"] if strengths else []
        for name, value in self.changes(store).items():
            off = {"none": "gate off", "conflict": "gate on"}.get(value) if name == "gate" else None
            parts.append(off or f"{'η' if name == 'eta' else GATE[name]} {value:g}")
        parts += ["calibrated coefficients"] if self.calibrated else []
        return "; ".join(parts) or "as run"

    def plan(self, store: RunStore) -> str:
        """The YAML of a plan that merges the same, but for calibrated coefficients, which no plan holds."""
        return plan_of(store, dict(self.updates), self.settings).to_yaml()


def parse(text: str, store: RunStore) -> Variant:
    """The variant of a link. Raises :class:`InputError`, one sentence, for what is no variant of the run."""
    variant = Variant.as_run(store)
    if text == AS_RUN:
        return variant
    updates, _, settings = text.partition("~~")
    if not updates and not settings:
        raise InputError(f"the link is empty, expected {AS_RUN!r} or updates")
    if updates:
        variant = replace(variant, updates=tuple(_update(part, store) for part in updates.split("~")))
        names = [name for name, _ in variant.updates]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"the link takes update {twice[:100]!r} twice")
    changes: dict[str, Any] = {}
    for part in settings.split("~") if settings else []:
        value, _, name = part.partition("_")
        if part == _CALIBRATED:
            variant = replace(variant, calibrated=True)
        elif name in changes or name not in ("eta", *GATE):
            known = ", ".join(("eta", *GATE))
            raise InputError(f"the link has the setting {part[:100]!r}, expected each of {known} once, as VALUE_NAME")
        else:
            changes[name] = value if name == "gate" else from_text(value)
    if changes.keys() & GATE.keys():
        check_regatable(store)
    return variant.at(**changes)


def _update(part: str, store: RunStore) -> tuple[str, float]:
    strength, _, quoted = part.partition("_")
    name = unquote(quoted)
    if name not in store.updates:
        own = ", ".join(store.updates[:8]) + ", …" * (store.steps > 8)
        raise InputError(f"the link takes update {name[:100]!r}, expected STRENGTH_NAME of {own}")
    return name, checked(from_text(strength), name)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
