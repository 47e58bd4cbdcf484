"""Geometry for merges without signals: most methods need no more of it than which updates are present."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from gcwm_viz.geometry.layer import LayerGeometry

_FIELDS = frozenset(field.name for field in fields(LayerGeometry))


class DeferredGeometry(LayerGeometry):
    """A :class:`LayerGeometry` that is computed when more of it is read than ``present``, and is an ordinary one from
    then on."""

    def __init__(self, present: tuple[int, ...], compute: Callable[[], LayerGeometry]) -> None:
        vars(self).update(present=present, _compute=compute)  # the fields of a frozen dataclass are set this way alone

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet."""
        if name not in _FIELDS:
            raise AttributeError(name)
        vars(self).update(vars(vars(self).pop("_compute")()))
        object.__setattr__(self, "__class__", LayerGeometry)
        return vars(self)[name]
