"""The same tensors under other names: with a wrapper's prefix, without the head's, or with a tower's elsewhere."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.matrices import block_place

T = TypeVar("T")

# Put before every name by DistributedDataParallel and torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")

# Names looked up before the two are taken for unrelated; each costs a pass over the base.
_TRIED = 16


def in_base_names(tensors: dict[str, T], base: CheckpointIndex) -> dict[str, T]:
    """``tensors`` under the names of :func:`base_names`."""
    names = base_names(tensors, base)
    return {names[name]: held for name, held in tensors.items()}


def base_names(names: Iterable[str], base: CheckpointIndex) -> dict[str, str]:
    """What the base calls tensors of these names; where nothing but prefixes tells the two apart, and no two would
    become one. A name without a counterpart stays as it is."""
    names = list(names)
    bare = names
    while wrapper := next((one for one in _WRAPPERS if bare and all(name.startswith(one) for name in bare)), None):
        if _shares_blocks(bare, base):
            break
        bare = [name.removeprefix(wrapper) for name in bare]
    found = bare if _shares_blocks(bare, base) else _prefixed(bare, base)
    return dict(zip(names, found if len(set(found)) == len(names) else bare, strict=True))


def _shares_blocks(names: list[str], base: CheckpointIndex) -> bool:
    return any(name in base.tensors and block_place(name) is not None for name in names)


def _prefixed(names: list[str], base: CheckpointIndex) -> list[str]:
    """``names`` with the base's prefix of its decoder blocks in place of their own, and what lies outside the blocks
    wherever the base has it."""
    inside = (name for name in names if block_place(name) is not None)
    for name in islice(inside, _TRIED):
        place = block_place(name) or 0
        tail = ".".join(name.split(".")[max(0, place - 1) :])
        own = name[: len(name) - len(tail)]
        # Other towers have blocks of the same names.
        matches = [
            known
            for known in base.tensors
            if (known == tail or known.endswith(f".{tail}")) and block_place(known) is not None
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
    if block_place(name) is not None:
        return name
    parts = name.split(".")
    shorter = (".".join(parts[start:]) for start in range(1, len(parts) - 1))
    longer = [known for known in base.tensors if known.endswith(f".{name}")] if len(parts) == 2 else []
    return next((one for one in shorter if one in base.tensors), longer[0] if len(longer) == 1 else name)
