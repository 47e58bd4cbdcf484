"""Geometry conflict and GCWM merging of language-model updates (arXiv 2605.09608)."""

from typing import TYPE_CHECKING, Any

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import LayerGeometry, layer_geometry
from gcwm_viz.merging.gcwm import LayerMerge, merge_layer

if TYPE_CHECKING:
    from gcwm_viz.tables import Run, open_run

__all__ = ["GCWMConfig", "LayerGeometry", "LayerMerge", "Run", "layer_geometry", "merge_layer", "open_run"]


def __getattr__(name: str) -> Any:
    """Runs are read with pandas, which a merge does without."""
    if name in ("Run", "open_run"):
        from gcwm_viz import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
