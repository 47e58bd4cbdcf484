"""The base's names of an update's tensors where only prefixes differ: a wrapper's, a head's, a tower's."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.matrices import block_position

T = TypeVar("T")

# Put before every name by DistributedDataParallel and torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")

# Most names to look up before the two count as unrelated; each costs a pass over the base.
_TRIED = 16


def in_base_names(tensors: dict[str, T], base: CheckpointIndex) -> dict[str, T]:
    """``tensors`` under the names of :func:`base_names`."""
    names = base_names(tensors, base)
    return {names[name]: tensor for name, tensor in tensors.items()}


def base_names(names: Iterable[str], base: CheckpointIndex) -> dict[str, str]:
    """The base's names of these tensors, where only prefixes differ and no two names would become one. A name
    without a counterpart is left alone."""
    names = list(names)
    bare = names
    while wrapper := next((one for one in _WRAPPERS if bare and all(name.startswith(one) for name in bare)), None):
        if _shares_blocks(bare, base):
            break
        bare = [name.removeprefix(wrapper) for name in bare]
    renamed = bare if _shares_blocks(bare, base) else _prefixed(bare, base)
    return dict(zip(names, renamed if len(set(renamed)) == len(names) else bare, strict=True))


def _shares_blocks(names: list[str], base: CheckpointIndex) -> bool:
    return any(name in base.tensors and block_position(name) is not None for name in names)


def _prefixed(names: list[str], base: CheckpointIndex) -> list[str]:
    """``names`` with the base's prefix of decoder blocks instead of their own, and tensors outside the blocks under the
    base's prefix of each."""
    inside = (name for name in names if block_position(name) is not None)
    for name in islice(inside, _TRIED):
        position = block_position(name) or 0
        tail = ".".join(name.split(".")[max(0, position - 1) :])
        own = name[: len(name) - len(tail)]
        # Other towers have blocks of the same names.
        matches = [
            candidate
            for candidate in base.tensors
            if (candidate == tail or candidate.endswith(f".{tail}")) and block_position(candidate) is not None
        ]
        if len(matches) == 1:
            theirs = matches[0][: len(matches[0]) - len(tail)]
            moved = [theirs + old.removeprefix(own) if old.startswith(own) else old for old in names]
            pairs = zip(names, moved, strict=True)
            return [old if old in base.tensors else new if new in base.tensors else _outside(new, base)
                    for old, new in pairs]  # fmt: skip
    return names


def _outside(name: str, base: CheckpointIndex) -> str:
    """A name outside the decoder blocks where the base has it under fewer leading components, or a head's under
    more."""
    if block_position(name) is not None:
        return name
    parts = name.split(".")
    shorter = (".".join(parts[start:]) for start in range(1, len(parts) - 1))
    longer = [tensor for tensor in base.tensors if tensor.endswith(f".{name}")] if len(parts) == 2 else []
    return next((tensor for tensor in shorter if tensor in base.tensors), longer[0] if len(longer) == 1 else name)
