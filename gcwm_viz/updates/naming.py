"""The base's names of an update's tensors where only prefixes differ: a wrapper's, a head's, a tower's.

Every list of blocks of the update (``model.layers.``) is matched with one of the base of the same name: that which
shares the most of its tensors, first those of its shapes, and of equal ones that whose path lacks the least of its own,
then the language model's. So updates of the bare language model and of a model around it meet, either way round.
"""

from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import TypeVar

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.towers import Towers, block_list

T = TypeVar("T")
Shape = tuple[int, ...]

# Most lists of blocks to match; a model has a few.
_TRIED = 16


def in_base_names(tensors: dict[str, T], base: CheckpointIndex) -> dict[str, T]:
    """``tensors`` under the names of :func:`base_names`."""
    names = base_names({name: getattr(tensor, "shape", ()) for name, tensor in tensors.items()}, base)
    return {names[name]: tensor for name, tensor in tensors.items()}


def base_names(shapes: Mapping[str, Shape], base: CheckpointIndex) -> dict[str, str]:
    """The base's names of these tensors, given with their shapes (empty where unknown, in either layout), where only
    prefixes differ and no two names would become one. A name without a counterpart is left alone."""
    moves = _moves(shapes, base)
    names = {name: _moved(name, moves, base) for name in shapes}
    guessed = {name: _guessed(name, base) for name, other in names.items() if other not in base.tensors}
    claims = Counter([*names.values(), *guessed.values()])
    names |= {name: other for name, other in guessed.items() if other and claims[other] == 1}
    return names if len(set(names.values())) == len(names) else {name: name for name in names}


def _moves(shapes: Mapping[str, Shape], base: CheckpointIndex) -> dict[str, str]:
    """Prefix of the base by prefix of the update, from the lists of blocks that fit each other, longest first."""
    towers = Towers.of(base)
    own, theirs = _lists(shapes), _lists({name: info.shape for name, info in base.tensors.items()})
    fits = {}
    for mine, tensors in own.items():
        for path, others in theirs.items():
            shared = tensors.keys() & others.keys()
            if shared and mine.split(".")[-2] == path.split(".")[-2]:
                same = sum(sorted(tensors[name]) == sorted(others[name]) for name in shared)
                parts, of_base = Counter(mine.split(".")), Counter(path.split("."))
                alike = -(parts - of_base).total(), path in towers.decoder, -(of_base - parts).total()
                fits[mine, path] = (same, len(shared), *alike)
    lists: dict[str, str] = {}
    for mine, path in sorted(fits, key=fits.__getitem__, reverse=True):
        if mine not in lists and path not in lists.values():
            lists[mine] = path
    moves = dict(_without_common_end(mine, path) for mine, path in lists.items())
    return {mine: moves[mine] for mine in sorted(moves, key=len, reverse=True)}


def _lists(shapes: Mapping[str, Shape]) -> dict[str, dict[str, Shape]]:
    """Shapes of the tensors of each list of blocks, by their names within it."""
    lists: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        if path := block_list(name):
            lists.setdefault(path, {})[name.removeprefix(path)] = shape
    return dict(islice(lists.items(), _TRIED))


def _without_common_end(mine: str, path: str) -> tuple[str, str]:
    """Both paths without the modules that they end in alike: their prefixes of all that lies around the blocks."""
    own, theirs = mine.split(".")[:-1], path.split(".")[:-1]
    while own and theirs and own[-1] == theirs[-1]:
        own, theirs = own[:-1], theirs[:-1]
    return "".join(f"{part}." for part in own), "".join(f"{part}." for part in theirs)


def _moved(name: str, moves: Mapping[str, str], base: CheckpointIndex) -> str:
    if name in base.tensors:
        return name
    moved = [theirs + name.removeprefix(own) for own, theirs in moves.items() if name.startswith(own)]
    missing = moved[0] if moved and block_list(name) else name
    return next((other for other in moved if other in base.tensors), missing)


def _guessed(name: str, base: CheckpointIndex) -> str:
    """The base's name of a tensor outside the blocks that it has under fewer leading components, or of a head that it
    has under more; empty without one."""
    if block_list(name):
        return ""
    parts = name.split(".")
    shorter = (".".join(parts[start:]) for start in range(1, len(parts) - 1))
    longer = [tensor for tensor in base.tensors if tensor.endswith(f".{name}")] if len(parts) == 2 else []
    return next((tensor for tensor in shorter if tensor in base.tensors), longer[0] if len(longer) == 1 else "")
