"""Model and losses of a run in the memory of a worker."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from gcwm_viz.attribution.path import StatePath, between, split_loss
from gcwm_viz.attribution.plan import Ends, Piece, tasks_with_loss
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.stored import state_of
from gcwm_viz.probes.tasks import HarnessTask, first, load_tasks

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Where a path is scored: 0 its start, 1 its end, above 1 beyond it."""


class Bench:
    """Model and losses of a worker, loaded once; the path of the piece before is kept for the next."""

    def __init__(self, run: Path, examples: int | None, precision: str, device: torch.device) -> None:
        self.store, self.device = RunStore.open(run), device
        self._live = LiveModel(self.store, device, torch.float32)
        self._tasks = load_tasks(self.store.file.probes.path)
        self._examples, self._half = examples, precision == "bfloat16"
        self._losses: dict[int, TaskLoss] = {}
        self._path: tuple[Ends, StatePath] | None = None

    @staticmethod
    @lru_cache(maxsize=1)
    def of(run: Path, identity: str, examples: int | None, precision: str, device: torch.device) -> Bench:
        del identity
        return Bench(run, examples, precision, device)

    def result(self, piece: Piece) -> dict[str, Any]:
        """What the piece's file holds.

        Raises :class:`InputError` for a loss that is not finite, and where the device's memory does not suffice.
        """
        try:
            return self._split(piece.ends, piece.task) if piece.task is not None else self._line(piece)
        except torch.OutOfMemoryError:
            raise InputError(
                f"{self.device}: its memory does not suffice for the gradients of this model, expected a larger "
                "device, or --dtype bfloat16"
            ) from None

    def _split(self, ends: Ends, index: int) -> dict[str, Any]:
        loss = self._loss(index)
        about = asdict(ends) | {"task": loss.task.name, "split": loss.task.split}
        matrices = [key.name for key in self._live.merged.keys]
        return about | {"matrices": matrices} | asdict(split_loss(self._path_of(ends), loss))

    def _line(self, piece: Piece) -> dict[str, Any]:
        tasks = [first(task, self._examples) for task in tasks_with_loss(self.store, piece.split).values()]
        probe = BehaviourProbe(self._live.tokenizer, tasks)
        start, end = self._state(piece.ends.start), self._state(piece.ends.step)
        rows = []
        for lam in LAMBDAS:
            self._live.set_updates([between(a, b, lam) for a, b in zip(start, end, strict=True)])
            for values in probe.measure(self._live.model, self.device):
                rows += [asdict(piece.ends) | {"lam": lam} | row for row in values.rows()]
        return {"rows": rows}

    def _loss(self, index: int) -> TaskLoss:
        if index not in self._losses:
            task = self._tasks[index]
            assert not isinstance(task, HarnessTask)
            self._losses[index] = TaskLoss(self._live.tokenizer, first(task, self._examples))
        return self._losses[index]

    def _path_of(self, ends: Ends) -> StatePath:
        if self._path is None or self._path[0] != ends:
            self._path = None  # its states are freed before the next are read
            self._path = (
                ends,
                StatePath(self._live.merged, self._state(ends.start), self._state(ends.step), half=self._half),
            )
        return self._path[1]

    def _state(self, step: int) -> list[Update | None]:
        return self._live.updates(state_of(self.store, step))
