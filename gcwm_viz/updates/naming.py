"""The same tensors under other prefixes: a model saved without its head drops the first component of every name."""

from itertools import islice
from typing import TypeVar

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.matrices import block_place

T = TypeVar("T")

# Names looked up before the two are taken for unrelated; each costs a pass over the base.
_TRIED = 16


def in_base_names(tensors: dict[str, T], base: CheckpointIndex) -> dict[str, T]:
    """``tensors`` under the base's names where only a prefix tells them apart (``transformer.h.0…`` and ``h.0…``)."""
    if any(name in base.tensors and block_place(name) is not None for name in tensors):
        return tensors
    inside = (name for name in tensors if block_place(name) is not None)
    for name in islice(inside, _TRIED):
        place = block_place(name) or 0
        tail = ".".join(name.split(".")[max(0, place - 1) :])
        own = name[: len(name) - len(tail)]
        matches = [found for found in base.tensors if found == tail or found.endswith(f".{tail}")]
        if len(matches) == 1:
            theirs = matches[0][: len(matches[0]) - len(tail)]
            renamed = {
                theirs + old.removeprefix(own) if old.startswith(own) and old not in base.tensors else old: held
                for old, held in tensors.items()
            }
            return renamed if len(renamed) == len(tensors) else tensors
    return tensors
