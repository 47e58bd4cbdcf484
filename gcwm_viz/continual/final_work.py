"""Final merges of several sequences of the same updates over an engine: a matrix is read once for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.location import location
from gcwm_viz.checkpoints.space import check_space
from gcwm_viz.continual.branches import stored_tensors
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.estimate import final_bytes, matrix_bytes
from gcwm_viz.continual.final import final_merges
from gcwm_viz.continual.final_folder import FinalFolder
from gcwm_viz.continual.fitting import Deltas, fitted, within_budget
from gcwm_viz.continual.run_file import RunFile
from gcwm_viz.continual.session import writing
from gcwm_viz.engines.engine import Engine, Worker
from gcwm_viz.geometry.shared import shared_geometry
from gcwm_viz.merging.merge import MERGED
from gcwm_viz.plugins.loading import WithPlugins
from gcwm_viz.updates.matrices import MatrixKey, depth
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.sources import open_update


@dataclass(frozen=True)
class Sources:
    """What workers open: the base, a folder or URL, and every update: its name, folder or URL, and strength."""

    base: str
    updates: tuple[tuple[str, str, float], ...]

    @classmethod
    def of(cls, file: RunFile) -> "Sources":
        """The updates of a run, at their strengths."""
        return cls(file.base.where, tuple((entry.name, entry.where, entry.strength) for entry in file.updates))

    def open(self) -> dict[str, UpdateSource]:
        """The updates by name; their fingerprints were checked before."""
        base = CheckpointIndex.open(location(self.base))
        return {name: open_update(name, location(where), base, strength) for name, where, strength in self.updates}


Item = tuple[int, MatrixKey, int]
"""A matrix: its place in model order, itself, and the bytes that it takes."""


def merge_finals(
    out: Path,
    session: str,
    folders: Sequence[FinalFolder],
    sources: Sources,
    keys: Sequence[MatrixKey],
    engine: Engine,
    tell: Callable[[int, int, str], None],
    memory_budget: int | None = None,
    ranks: Sequence[int | None] | None = None,
) -> None:
    """Compute what ``folders``, which lie in ``out``, lack; the caller holds the lock on ``out`` and has begun its
    ``session``.

    ``tell``: called with matrices done, matrices in all, and the matrix just finished. ``memory_budget``, ``ranks``: as
    :func:`~gcwm_viz.continual.engine.run_matrices` takes them. Raises :class:`InputError` for folders of other merges,
    a disk without room, and as :func:`~gcwm_viz.continual.final.final_merges` does.
    """
    for folder in folders:
        folder.begin()
    lacking = {place: [f for f in folders if not f.holds(place)] for place in range(len(keys))}
    pending = [place for place, own in lacking.items() if own]
    if not pending:
        return
    width = len(sources.updates)  # a worker holds all of them, whatever a sequence leaves out
    every = [matrix_bytes(keys, width, _last_alone(folder.settings), ranks) for folder in folders]
    needs = [max(each) for each in zip(*every, strict=True)]
    check_space(
        out, sum(_disk(folder, place, keys, ranks) for place in pending for folder in lacking[place]), "the merge"
    )
    limit, tile = within_budget(memory_budget, engine.workers, max(needs[place] for place in pending))
    # Workers on other machines have another current folder.
    lasting = tuple(replace(folder, path=folder.path.absolute()) for folder in folders)
    work = WithPlugins(partial(_merge, out.absolute(), session, lasting, sources, tile, depth(keys)))
    # Largest first, so that no worker is left with a long one at the end.
    items = [(place, keys[place], needs[place]) for place in sorted(pending, key=lambda place: -keys[place].parameters)]
    done = len(keys) - len(items)
    for (_, key, _), _ in engine.unordered(work, items, limit=limit, memory=lambda item: item[2], overlap=True):
        done += 1
        tell(done, len(keys), key.name)


def _disk(folder: FinalFolder, place: int, keys: Sequence[MatrixKey], ranks: Sequence[int | None] | None) -> int:
    own = None if ranks is None else [ranks[place]]
    return final_bytes([keys[place]], folder.steps, folder.settings, own)


def _last_alone(settings: RunSettings) -> RunSettings:
    """``settings`` of a run that keeps what a final merge does, for the estimate of its memory."""
    if settings.continual.decay != 1.0:
        return settings
    return replace(settings, continual=replace(settings.continual, keep="last"))


def _merge(
    out: Path,
    session: str,
    folders: tuple[FinalFolder, ...],
    sources: Sources,
    tile: int | None,
    layers: int,
    worker: Worker,
    item: Item,
) -> None:
    """Compute and write one matrix of every folder that lacks it."""
    place, key, need = item
    opened = _open(sources, session)
    with shared_geometry() as geometry:
        deltas = Deltas(worker.device)

        def release() -> None:
            deltas.leave_device()
            geometry.clear()

        for folder in folders:
            if folder.holds(place):
                continue
            own = [opened[name] for name in folder.updates]
            deltas.fetch(key, own, need)
            with worker.turn:
                tensors, _ = fitted(
                    key, worker.device, tile, partial(_computed, folder, key, deltas, own, layers), release
                )
                if folder is folders[-1]:
                    release()  # the next matrix may use the device while this one is written
            with writing(out, session):
                folder.write(place, key, tensors)


def _computed(
    folder: FinalFolder, key: MatrixKey, deltas: Deltas, own: Sequence[UpdateSource], layers: int, target: torch.device
) -> dict[str, Tensor]:
    merged = final_merges(key, folder.updates, deltas.on(target, own), folder.settings, layers)
    return {
        name: part for step, update in merged.items() for name, part in stored_tensors({MERGED: update}, step).items()
    }


@lru_cache(maxsize=1)
def _open(sources: Sources, session: str) -> dict[str, UpdateSource]:
    """Opened once per process and session."""
    del session
    return sources.open()
