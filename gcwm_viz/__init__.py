"""Geometry conflict and GCWM merging of language-model updates (arXiv 2605.09608)."""

from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.layer import LayerGeometry, layer_geometry
from gcwm_viz.merging.gcwm import LayerMerge, merge_layer
from gcwm_viz.tables import Run, open_run

__all__ = ["GCWMConfig", "LayerGeometry", "LayerMerge", "Run", "layer_geometry", "merge_layer", "open_run"]
