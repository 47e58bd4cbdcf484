"""What there is to attribute in a run: paths between its states, and tasks with a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.probes.loss import LossTask
from gcwm_viz.probes.tasks import HarnessTask, load_tasks


@dataclass(frozen=True)
class Ends:
    """A path from the state after ``start`` (0 is the base) to that after ``step``."""

    start: int
    step: int

    @property
    def words(self) -> str:
        return f"{'the base' if self.start == 0 else f'step {self.start}'} to step {self.step}"


@dataclass(frozen=True)
class Piece:
    """One piece of work on the path between ``ends``: the loss of one task, or the scores of all for a
    ``task`` of None.

    ``task``: its place among all tasks of the probes. ``label``: in words.
    """

    ends: Ends
    split: str
    task: int | None
    label: str

    @property
    def file(self) -> str:
        """Of its result, below the folder of the results."""
        name = f"{self.split}-{self.ends.start:03d}-{self.ends.step:03d}"
        return f"lines/{name}.json" if self.task is None else f"pieces/{name}-{self.task:02d}.json"


def paths_of(store: RunStore, start: int | None = None, step: int | None = None) -> list[Ends]:
    """The paths of a call of :func:`~gcwm_viz.attribution.attribute.attribute`. A run that keeps its last step alone
    has one, from the base.

    Raises :class:`InputError` for states that the run has not.
    """
    last = store.settings.continual.keep == "last"
    if start is None and step is None:
        steps = [] if last else [Ends(t - 1, t) for t in range(1, store.steps + 1)]
        whole = Ends(0, store.steps)
        return steps if whole in steps else [*steps, whole]
    end = store.steps if step is None else step
    begin = (0 if last else end - 1) if start is None else start
    if not 0 <= begin < end <= store.steps:
        raise InputError(
            f"run {store.path}: expected states from 0 (the base) to {store.steps}, the first before the second, "
            f"found {begin} and {end}"
        )
    if last and (begin, end) != (0, store.steps):
        raise InputError(
            f"run {store.path} keeps the tensors of its last step alone (keep=last), expected the path from 0 to "
            f"{store.steps}, found {begin} to {end}"
        )
    return [Ends(begin, end)]


def tasks_with_loss(store: RunStore, split: str, names: Sequence[str] | None = None) -> dict[int, LossTask]:
    """The tasks of one split that have a loss, by their place among all tasks; with ``names`` these alone.

    Raises :class:`InputError` where there is none, or a name is none of them.
    """
    if store.file.probes.where is None:
        raise InputError(
            f"run {store.path} has no probes, so no loss whose change could be split; "
            f"`gcwm-viz score {store.path} --probes DIR` gives it some"
        )
    if store.file.probes.fingerprint is None:
        raise InputError(
            f"run {store.path} does not say which content its probes had (an earlier version wrote it); "
            f"`gcwm-viz score {store.path} --replace` scores it again"
        )
    every = enumerate(load_tasks(store.file.probes.path))
    tasks = {k: task for k, task in every if task.split == split and not isinstance(task, HarnessTask)}
    if not tasks:
        raise InputError(
            f"{store.file.probes.where}: expected tasks of the split {split!r} with prompts, choices or texts, found "
            "none (tasks of lm-evaluation-harness have no loss here)"
        )
    have = {task.name for task in tasks.values()}
    for name in names or ():
        if name not in have:
            raise InputError(f"task {name!r} is none of the split {split!r}, which has {', '.join(sorted(have))}")
    return {index: task for index, task in tasks.items() if names is None or task.name in names}
