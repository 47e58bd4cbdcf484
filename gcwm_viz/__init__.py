"""Geometry conflict and GCWM merging of language-model updates (arXiv 2605.09608)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gcwm_viz.attribution.attribute import attribute
    from gcwm_viz.calibration.calibrate import calibrate
    from gcwm_viz.calibration.settings import CalibrationSettings
    from gcwm_viz.geometry.config import GCWMConfig
    from gcwm_viz.geometry.layer import LayerGeometry, layer_geometry
    from gcwm_viz.merging.gcwm import LayerMerge, merge_layer
    from gcwm_viz.notebook.run import Run, open_run

__all__ = [
    "CalibrationSettings",
    "GCWMConfig",
    "LayerGeometry",
    "LayerMerge",
    "Run",
    "attribute",
    "calibrate",
    "layer_geometry",
    "merge_layer",
    "open_run",
]

_OWNERS = {
    "gcwm_viz.attribution.attribute": ("attribute",),
    "gcwm_viz.calibration.calibrate": ("calibrate",),
    "gcwm_viz.calibration.settings": ("CalibrationSettings",),
    "gcwm_viz.geometry.config": ("GCWMConfig",),
    "gcwm_viz.geometry.layer": ("LayerGeometry", "layer_geometry"),
    "gcwm_viz.merging.gcwm": ("LayerMerge", "merge_layer"),
    "gcwm_viz.notebook.run": ("Run", "open_run"),
}


def __getattr__(name: str) -> Any:
    """Each name loads what it needs when it is first asked for: the command line's help needs neither torch nor pandas,
    a merge no pandas."""
    for module, names in _OWNERS.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
