"""Geometry conflict and GCWM merging of language-model updates (arXiv 2605.09608)."""
