"""From a decision back to a plan that ``run --plan`` takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gcwm_viz.checkpoints.location import location
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.plan_file import RunPlan
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError


def plan_of(store: RunStore, chosen: Sequence[str]) -> RunPlan:
    """The run's base, settings and probes with the updates in ``chosen``, in that order.

    Raises :class:`InputError` for no update, one that the run does not have, and an input without a path in run.json.
    """
    paths = {entry["name"]: entry.get("path") for entry in store.info["updates"]}
    if not chosen:
        raise InputError("a plan needs at least one update")
    for name in chosen:
        if name not in paths:
            raise InputError(f"run {store.path} has no update {name!r}")
    base = store.info.get("base")
    base_path = base.get("path") if isinstance(base, dict) else None
    if not all(isinstance(path, str) for path in (base_path, *(paths[name] for name in chosen))):
        raise InputError(f"run {store.path}: run.json does not say where the inputs lie")
    probes = store.info.get("probes")
    return RunPlan(
        base=location(str(base_path)),
        updates=tuple((name, location(str(paths[name]))) for name in chosen),
        preset=store.settings.preset,
        method=store.settings.method,
        settings=overrides(store.settings),
        probes=Path(probes) if isinstance(probes, str) else None,
        probe_dtype=str(store.info.get("probe_dtype") or PROBE_DTYPES[0]),
    )


def overrides(settings: RunSettings) -> dict[str, Any]:
    """Single settings that differ from the preset's, by name."""
    usual = _flat(RunSettings.preset_with(settings.preset, {}, settings.method))
    return {name: value for name, value in _flat(settings).items() if value != usual[name]}


def _flat(settings: RunSettings) -> dict[str, Any]:
    values = settings.to_dict()
    return values["gcwm"] | values["continual"] | values["options"]
