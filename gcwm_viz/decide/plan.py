"""A plan for ``run --plan`` from the updates that were chosen, and how much of each."""

from collections.abc import Mapping
from typing import Any

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import RunPlan
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.updates.strength import WHOLE


def plan_of(store: RunStore, chosen: Mapping[str, float], settings: RunSettings | None = None) -> RunPlan:
    """The run's base and probes with the updates in ``chosen``, in that order, each at its strength on top of the one
    that the run takes it at. ``settings``: by default the run's.

    Raises :class:`InputError` for no update and one that the run does not have.
    """
    updates = {entry.name: entry for entry in store.file.updates}
    if not chosen:
        raise InputError("a plan needs at least one update")
    for name in chosen:
        if name not in updates:
            raise InputError(f"run {store.path} has no update {name!r}")
    strengths = {name: updates[name].strength * strength for name, strength in chosen.items()}
    probes, settings = store.file.probes, settings or store.settings
    return RunPlan(
        base=store.file.base.path,
        updates=tuple((name, updates[name].path) for name in chosen),
        strengths={name: round(strength, 6) for name, strength in strengths.items() if strength != WHOLE},
        choice=store.file.choice,
        preset=settings.preset,
        method=settings.method,
        settings=overrides(settings),
        probes=probes.path if probes.where else None,
        probe_dtype=probes.dtype,
    )


def overrides(settings: RunSettings) -> dict[str, Any]:
    """Single settings that differ from the preset's, by name."""
    preset = RunSettings.preset_with(settings.preset, {}, settings.method).single()
    return {name: value for name, value in settings.single().items() if value != preset[name]}
