"""The states of one training, as folders checkpoint-100, checkpoint-200, … in one folder, and what they may be read as.

A state θ_t holds all that was trained before it. Taken for an expert, an earlier training counts again in every later
state; so a sequence is described as states, or merged by its increments θ_t − θ_{t−1}.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from gcwm_viz.checkpoints.hub import UP_TO
from gcwm_viz.checkpoints.location import is_remote
from gcwm_viz.errors import InputError

STATES, INCREMENTS, EXPERTS = READINGS = ("states", "increments", "experts")
ABOUT = {
    STATES: "describe the training: θ_t are its states, nothing is merged",
    INCREMENTS: "merge what came between: θ_t − θ_{t−1} is an update",
    EXPERTS: "merge them as they are: each is an update of the base of its own",
}
# Names that trainers give to the states of one training, with the number of steps or epochs.
_STATE = re.compile(r"(?P<stem>(checkpoint|ckpt|global_?step|step|epoch|iter|iteration|state|theta)[-_]?)(?P<at>\d+)")
MOST = 1000


def in_sequence(folders: Iterable[Path]) -> list[Path]:
    """``folders`` in the order of their numbers where their names are those of the states of one training; else []."""
    numbered: dict[tuple[str, int], Path] = {}
    for folder in folders:
        match = _STATE.fullmatch(folder.name.lower())
        if match is None:
            return []
        numbered[match["stem"], int(match["at"])] = folder
    one_stem = len({stem for stem, _ in numbered}) == 1 < len(numbered)
    return [numbered[key] for key in sorted(numbered)] if one_stem else []


def states_in(folder: Path) -> list[Path]:
    """The folders in ``folder`` that hold weights and are named as states of one training, in order; [] where there are
    none, or one."""
    if is_remote(folder) or not folder.is_dir():
        return []
    try:
        named = [child for child in folder.iterdir() if _STATE.fullmatch(child.name.lower()) and child.is_dir()]
        return in_sequence(child for child in named if next(child.glob("*.safetensors"), None) is not None)
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror or error})") from None


def open_sequence(folder: Path) -> list[Path]:
    """As :func:`states_in`. Raises :class:`InputError` where there are less than two."""
    states = states_in(folder)
    if not 1 < len(states) <= MOST:
        raise InputError(
            f"{folder}: expected 2 to {MOST} folders named like checkpoint-100, checkpoint-200, … with safetensors "
            f"weights, found {len(states)}"
        )
    return states


def read_as(reading: str, states: Sequence[Path]) -> tuple[list[tuple[str, Path]], list[Path]]:
    """(name, source) of every update and the given states, in order; the first increment starts at the base. A reading
    as states has the increments as its updates."""
    if reading == EXPERTS:
        return [(state.name, state) for state in states], []
    pairs = pairwise(states)
    increments = [states[0], *(Path(f"{earlier}{UP_TO}{later}") for earlier, later in pairs)]
    updates = [(state.name, increment) for state, increment in zip(states, increments, strict=True)]
    return updates, list(states) if reading == STATES else []


def named(states: Sequence[Path]) -> str:
    """``checkpoint-100 … checkpoint-500``."""
    return f"{states[0].name} … {states[-1].name}"


def sequence_warning(paths: Iterable[Path]) -> str:
    """Where updates are, by the names of their folders, states of one training, that they count again; else empty."""
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    for folder, paths in by_folder.items():
        if states := in_sequence(paths):
            return (
                f"{named(states)} in {folder} are by their names states of one training, so that each holds the ones "
                f"before it; as updates of the base these count again: --sequence {folder} reads them as states, or by "
                "their increments"
            )
    return ""
