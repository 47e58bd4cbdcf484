"""Variants of a run merged and scored in this process: what a change leaves as it was is not computed again.

Only another set of updates, another strength of one and, where it matters, another order need a merge. It leaves both
branches of every matrix, so that η, the gate and calibrated coefficients are products and sums of what is in memory.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from gcwm_viz.calibration.coefficients import combined
from gcwm_viz.calibration.result import Calibrated
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.final import Gated, gated_merges
from gcwm_viz.continual.state import entering, state_of
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.variant import Variant
from gcwm_viz.linalg.lowrank import LowRank, Update, scaled
from gcwm_viz.merging.registry import get_method
from gcwm_viz.plugins.record import check_same
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.stored import read_examples
from gcwm_viz.probes.tasks import Task, load_tasks
from gcwm_viz.probes.values import TaskValues
from gcwm_viz.studies.leave_one_out import check_scorable
from gcwm_viz.studies.regate import regated
from gcwm_viz.updates.matrices import MatrixKey, depth
from gcwm_viz.updates.source import UpdateSource
from gcwm_viz.updates.strength import WHOLE

KEPT_BYTES = 2**30
"""Of merges, and again of updates, in memory; the merge used last is kept whatever its size."""
Tell = Callable[[int, int], None]
"""Called with matrices done and matrices in all."""
Taken = tuple[tuple[str, float], ...]
"""Updates in the order of their merge, with strengths."""


def check_variable(store: RunStore) -> None:
    """Raises :class:`InputError` for a run without variants: without probes, of a training pipeline, unfinished, or one
    that merges tensors outside its matrices."""
    check_scorable(store, "to vary")
    store.check_kept("a variant")
    store.check_finished()
    check_same(store.settings.method, store.file.plugins, f"run {store.path}")


def order_matters(store: RunStore) -> bool:
    """Whether updates in another order have another merge: one defined one update at a time, or an active set, weights
    or η that depend on arrival. Elsewhere another order only rounds a sum differently."""
    continual = store.settings.continual
    return (
        get_method(store.settings.method).sequential
        or (continual.policy, continual.memory, continual.decay) != ("all_history", None, 1.0)
        or continual.old_weight != continual.new_weight
    )


class Variants:
    """Merges, updates and encoded probes of one run. ``merging``: seconds of the last whole merge; ``scoring``: of the
    last scores of a split."""

    def __init__(self, store: RunStore) -> None:
        """Raises :class:`InputError` as :func:`check_variable` does."""
        check_variable(store)
        self.store = store
        self.merging = math.nan
        self.scoring: dict[str, float] = {}
        self._merges: OrderedDict[Taken, list[dict[int, Gated]]] = OrderedDict()
        self._spent: dict[Taken, float] = {}
        self._updates: dict[tuple[str, str], Update | None] = {}
        self._probes: dict[str, list[BehaviourProbe]] = {}

    @cached_property
    def tasks(self) -> list[Task]:
        """The development split first: it chooses."""
        return load_tasks(self.store.file.probes.path)

    def count(self, split: str) -> int:
        """How many tasks a split has."""
        return sum(task.split == split for task in self.tasks)

    @cached_property
    def _base(self) -> CheckpointIndex:
        return CheckpointIndex.open(self.store.file.base.path)

    @cached_property
    def _sources(self) -> dict[str, UpdateSource]:
        return {entry.name: entry.open(self._base) for entry in self.store.file.updates}

    def expected(self, variant: Variant, split: str) -> float:
        """Seconds that its scores take, by the last measurement; NaN where there is none."""
        merge = 0.0 if self._ready(self._taken(variant)) else self.merging
        return merge + self.scoring.get(split, math.nan)

    def states(self, variant: Variant, tell: Tell | None = None) -> list[Update | None]:
        """S_T of every matrix: on the CPU that of a run of the variant's plan, bit by bit; where order does not matter,
        with its updates in the order of the run. With calibrated coefficients, c_0 S_T + Σ c_i s_i Δ_i over its
        updates."""
        gcwm, continual = variant.settings.gcwm, variant.settings.continual
        coefficients = Calibrated.of(self.store, self._base).factors if variant.calibrated else None
        taken, strengths = self._taken(variant), dict(variant.updates)
        found: list[Update | None] = []
        for key, merges in zip(self.store.keys, self._merged(taken, tell), strict=True):

            def merged(at: int, merges: dict[int, Gated] = merges) -> Update:
                own = merges[at]
                return own.branches.blend(*regated(own.alpha, own.mode, own.conflict, gcwm))

            state: Update | None = state_of(len(taken), merged, continual)
            if coefficients is not None:
                updates = [self._update(name, strengths.get(name), key) for name in self.store.updates]
                state = combined([state, *updates], coefficients[key.name])
            found.append(state)
        return found

    def stored(self, variant: Variant, split: str) -> list[TaskValues]:
        """What the run itself scored, where the variant is its own final state; else empty."""
        own = self._taken(variant) == Variant.as_run(self.store).updates
        if not own or variant.changes(self.store) or variant.calibrated:
            return []
        return [task for task in read_examples(self.store, self.store.steps) if task.split == split]

    def scores(self, live: LiveModel, variant: Variant, split: str, tell: Tell | None = None) -> Iterator[TaskValues]:
        """Values of every example, one task of ``split`` after another. A task is batched alone here, so that a loss
        can differ from the run's by rounding."""
        states = self.states(variant, tell)
        begin = time.perf_counter()
        live.set_updates(states)
        if split not in self._probes:
            own = [task for task in self.tasks if task.split == split]
            self._probes[split] = [BehaviourProbe(live.tokenizer, [task]) for task in own]
        seconds = time.perf_counter() - begin
        for probe in self._probes[split]:
            begin = time.perf_counter()
            values = probe.measure(live.model, live.device)[0]
            seconds += time.perf_counter() - begin
            yield values
        self.scoring[split] = seconds

    def likely(self, variant: Variant) -> Taken | None:
        """What the next change may merge: the variant without one of its updates; None where all of that is there."""
        updates = variant.updates if len(variant.updates) > 1 else ()
        without = (tuple(other for other in updates if other != pair) for pair in updates)
        every = (self._taken(replace(variant, updates=rest)) for rest in without)
        return next((taken for taken in every if not self._ready(taken)), None)

    def merge_ahead(self, taken: Taken, seconds: float) -> None:
        """Work on a merge for some seconds."""
        end = time.perf_counter() + seconds
        for _ in self._go_on(taken):
            if time.perf_counter() > end:
                return

    def _taken(self, variant: Variant) -> Taken:
        """In the order of the run where order does not matter."""
        if order_matters(self.store):
            return variant.updates
        return tuple(sorted(variant.updates, key=lambda pair: self.store.updates.index(pair[0])))

    def _step(self, taken: Taken) -> int | None:
        """The step of the run at which just these updates are merged, where its tensors are stored."""
        step = len(taken)
        kept = self.store.settings.continual.keep == "all" or step == self.store.steps
        return step if kept and taken == Variant.as_run(self.store).updates[:step] else None

    def _ready(self, taken: Taken) -> bool:
        return len(self._merges.get(taken, ())) == len(self.store.keys) or self._step(taken) is not None

    def _merged(self, taken: Taken, tell: Tell | None) -> Sequence[dict[int, Gated]]:
        """Of every matrix the merges of the steps that enter the state."""
        for done in self._go_on(taken):
            if tell is not None:
                tell(done, len(self.store.keys))
        return self._merges[taken]

    def _go_on(self, taken: Taken) -> Iterator[int]:
        """Merge the matrices that are missing; yields how many are there after each. What was begun is kept."""
        merges, step = self._merges.setdefault(taken, []), self._step(taken)
        self._merges.move_to_end(taken)
        while self.store.keys[len(merges) :]:
            begin, place = time.perf_counter(), len(merges)
            merges.append(self._merge(self.store.keys[place], taken) if step is None else self._read(place, step))
            self._spent[taken] = self._spent.get(taken, 0.0) + time.perf_counter() - begin
            if step is None and len(merges) == len(self.store.keys):
                self.merging = self._spent[taken]
            yield len(merges)
        while len(self._merges) > 1 and sum(map(_bytes, self._merges.values())) > KEPT_BYTES:
            self._merges.popitem(last=False)

    def _merge(self, key: MatrixKey, taken: Taken) -> dict[int, Gated]:
        deltas = [self._update(name, strength, key) for name, strength in taken]
        return gated_merges(key, [name for name, _ in taken], deltas, self.store.settings, depth(self.store.keys))

    def _read(self, place: int, step: int) -> dict[int, Gated]:
        rows = self.store.rows(place)["matrices"]
        return {
            at: Gated(
                self.store.branches(place, at),
                *(float(rows[at - 1]["alpha"]), str(rows[at - 1]["mode"]), float(rows[at - 1]["conflict"])),
            )
            for at in entering(step, self.store.settings.continual)
        }

    def _update(self, name: str, strength: float | None, key: MatrixKey) -> Update | None:
        """sΔ of one matrix, None where there is none of it."""
        if strength is None:
            return None
        place = name, key.name
        delta = self._updates[place] if place in self._updates else self._sources[name].delta(key)
        if place not in self._updates and sum(map(_size, self._updates.values())) < KEPT_BYTES:
            self._updates[place] = delta
        return delta if delta is None or strength == WHOLE else scaled(delta, strength)


def _bytes(merges: Sequence[dict[int, Gated]]) -> int:
    return sum(_size(update) for each in merges for own in each.values() for update in own.branches.updates.values())


def _size(update: Update | None) -> int:
    parts = (update.left_or, update.right_ri) if isinstance(update, LowRank) else (update,)
    return sum(part.nbytes for part in parts if part is not None)
