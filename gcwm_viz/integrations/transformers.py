"""The geometry of an update while it is trained, as a callback of transformers' Trainer and of TRL's trainers."""

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer_callback import TrainerCallback

from gcwm_viz.checkpoints.atomic import partial_name
from gcwm_viz.continual.device import pick_device
from gcwm_viz.errors import InputError, first_line
from gcwm_viz.integrations.in_training import TrainedUpdate, is_sharded, saved_update, update_in_training
from gcwm_viz.integrations.measurement import ALL_MATRICES, MATRICES, Geometry, Values, quantities, spread
from gcwm_viz.integrations.meeting import Meeting
from gcwm_viz.signals.interference import LARGEST_DENSE
from gcwm_viz.updates.choice import Choice

if TYPE_CHECKING:
    from transformers import Trainer
    from transformers.trainer_callback import TrainerControl, TrainerState
    from transformers.training_args import TrainingArguments

PREFIX = "geometry/"
"""Of every name that is logged."""
logger = logging.getLogger(__name__)


class GeometryConflictCallback(TrainerCallback):
    """Logs what the update in training would do to earlier updates, from weights alone: at every save, and with
    ``every`` also every so many optimiser steps.

        trainer.add_callback(GeometryConflictCallback(trainer, base=BASE, earlier={"math": "adapters/math"}))

    ``trainer``: whose log the numbers go to, and so to every reporter that it has; a callback of its ``callbacks``
    argument could only add to a log that the reporters have seen. docs/training.md says what each name means.

    ``base``: the model that the training starts from, a folder or hub id. ``earlier``: updates of it by name, in order
    of arrival, as the command line takes them; or ``run``, a finished run with its updates and final state, whose base
    is the default of ``base``. ``prepare_s``: seconds after which no further matrix is prepared before the first step;
    ``budget_s``: after which none is begun in a measurement. The first measurement of a training decides how many are
    covered from then on. ``matrices``: at most so many.
    ``targets``, ``leave_out``: patterns of their names, as on the command line. ``families``: whether every family
    has values of its own. ``intruders_up_to``: the longest side of a matrix whose intruder directions are counted;
    every measurement takes an SVD of it. ``warn_at``, ``stop_at``: thresholds by name without ``geometry/``, to warn
    when one is crossed and to stop where one is reached. ``device``: of the decompositions; cpu leaves the training's
    GPU alone.

    In a distributed training the first process alone reads, computes and logs, and tells the others to stop. What
    cannot be measured later on, such as weights that are not finite, is a warning: a training does not end by it.

    Raises :class:`InputError` at once for inputs that do not fit each other and for settings out of range, and when the
    training begins for a model with another base.
    """

    def __init__(
        self,
        trainer: "Trainer",
        *,
        base: str | Path | None = None,
        earlier: Mapping[str, str | Path] | None = None,
        run: str | Path | None = None,
        every: int | None = None,
        prepare_s: float = 300.0,
        budget_s: float = 60.0,
        matrices: int | None = None,
        targets: str = "",
        leave_out: str = "",
        families: bool = True,
        intruders_up_to: int = LARGEST_DENSE,
        warn_at: Mapping[str, float] | None = None,
        stop_at: Mapping[str, float] | None = None,
        device: str = "cpu",
    ) -> None:
        if (run is None) == (earlier is None) or (run is None and base is None):
            raise InputError("expected base and earlier updates, or a run and where another one is meant its base")
        for setting, value in (("every", every), ("matrices", matrices)):
            if value is not None and value < 1:
                raise InputError(f"setting {setting} must be at least 1, or None, got {value}")
        for setting, seconds in (("prepare_s", prepare_s), ("budget_s", budget_s)):
            if not seconds >= 0:
                raise InputError(f"setting {setting} must be a number of seconds, 0 or more, got {seconds}")
        self._trainer, self._every, self._most = trainer, every, matrices
        self._prepare_s, self._budget_s = prepare_s, budget_s
        self._warn_at, self._stop_at = dict(warn_at or {}), dict(stop_at or {})
        self._geometry: Geometry | None = None
        if not trainer.is_world_process_zero():
            return
        choice = Choice(targets=targets, leave_out=leave_out)
        if run is not None:
            self._meeting = Meeting.of_run(run, base, choice)
        else:
            assert base is not None
            self._meeting = Meeting.of(base, earlier or {}, choice)
        self._check_thresholds(families)
        self._new_geometry = partial(
            Geometry, self._meeting, device=pick_device(device), largest=intruders_up_to, by_family=families
        )
        for warning in self._meeting.warnings:
            logger.warning("%s", warning)

    def on_train_begin(self, args: "TrainingArguments", state: "TrainerState", control: Any, **kwargs: Any) -> None:
        """Pairs the model with the base, and computes what stays. Raises :class:`InputError` where they do not fit."""
        if not state.is_world_process_zero:
            return
        keys, model = self._meeting.keys, self._model()
        if self._every is not None or not any(map(is_sharded, model.parameters())):
            with update_in_training(model, self._meeting.base) as update:
                keys = update.touched(keys)
                for key in keys:
                    update.check(key)
        if not keys:
            raise InputError(
                f"the model in training changes no target matrix of {self._meeting.base.root}, expected at least one "
                f"of {len(self._meeting.keys)} ({self._meeting.keys[0].name!r}, …)"
            )
        self._geometry = self._new_geometry(order=spread(keys))
        self._geometry.prepare(self._prepare_s, self._limit(state))

    def on_step_end(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """After an optimiser step."""
        if self._every is not None and state.global_step % self._every == 0:
            self._measure(state, control, lambda: update_in_training(self._model(), self._meeting.base))

    def on_save(
        self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **kwargs: Any
    ) -> None:
        """After a save, from the files that it wrote."""
        folder = Path(args.output_dir or "") / f"checkpoint-{state.global_step}"
        if self._measure(state, control, lambda: nullcontext(saved_update(self._model(), folder, self._meeting.base))):
            # The checkpoint's own log was written before; a training that resumes from it reads this one.
            file = folder / "trainer_state.json"
            state.save_to_json(str(partial_name(file)))
            os.replace(partial_name(file), file)

    def _measure(
        self,
        state: "TrainerState",
        control: "TrainerControl",
        opened: Callable[[], AbstractContextManager[TrainedUpdate]],
    ) -> bool:
        """Whether something was logged. Every process of a distributed training must call it at the same time."""
        values: Values = {}
        if state.is_world_process_zero and _last(state, MATRICES, state.global_step) is None:
            assert self._geometry is not None
            try:
                with opened() as update:
                    values = self._geometry.of(update, self._budget_s, self._limit(state))
            except (InputError, OSError, RuntimeError) as error:
                logger.warning("step %d: the geometry was not measured (%s)", state.global_step, first_line(error))
        if values:
            self._warn(values, state)
            self._log(values, control)
        reached = [name for name, threshold in self._stop_at.items() if values.get(name, -math.inf) >= threshold]
        for name in reached:
            logger.warning("step %d: the training stops, %s", state.global_step, _words(name, values, self._stop_at))
        if self._stop_at and _agreed(bool(reached)):
            control.should_training_stop = True
        return bool(values)

    def _limit(self, state: "TrainerState") -> int | None:
        """Matrices to cover at most: as many as the first measurement of this training, also of one that is resumed."""
        covered = (int(entry[PREFIX + MATRICES]) for entry in state.log_history if PREFIX + MATRICES in entry)
        limits = [limit for limit in (self._most, next(covered, None)) if limit is not None]
        return min(limits, default=None)

    def _warn(self, values: Values, state: "TrainerState") -> None:
        first = _last(state, MATRICES) is None
        if first and values[MATRICES] < values[ALL_MATRICES]:
            logger.warning(
                "geometry of %d of %d matrices, as matrices=%s, prepare_s=%g and budget_s=%g allow",
                *(values[MATRICES], values[ALL_MATRICES], self._most, self._prepare_s, self._budget_s),
            )
        for name in (self._warn_at.keys() | self._stop_at.keys()) - values.keys() if first else ():
            logger.warning("%s%s is undefined in the covered matrices, its threshold cannot be reached", PREFIX, name)
        for name, threshold in self._warn_at.items():
            before = _last(state, name)
            if values.get(name, -math.inf) >= threshold and (before is None or before < threshold):
                logger.warning("step %d: %s", state.global_step, _words(name, values, self._warn_at))

    def _log(self, values: Values, control: "TrainerControl") -> None:
        """Through the Trainer's own method: those of TRL's trainers would log, and reset, their means as well."""
        from transformers import Trainer

        due = control.should_log  # logging resets it, and the step's own log would be lost
        Trainer.log(self._trainer, {PREFIX + name: value for name, value in values.items()})
        control.should_log = due

    def _model(self) -> Any:
        return self._trainer.accelerator.unwrap_model(self._trainer.model, keep_torch_compile=False)

    def _check_thresholds(self, by_family: bool) -> None:
        own = quantities(self._meeting.names)
        families = dict.fromkeys(key.family for key in self._meeting.keys) if by_family else []
        known = {*own, *(f"{family}/{name}" for family in families for name in own)}
        for setting, thresholds in (("warn_at", self._warn_at), ("stop_at", self._stop_at)):
            for name in thresholds.keys() - known:
                raise InputError(f"setting {setting}: nothing called {name[:100]!r} is measured, expected {_list(own)}")


def _last(state: "TrainerState", name: str, step: int | None = None) -> float | None:
    """The value logged last, or at this step; None without one."""
    found = (entry for entry in reversed(state.log_history) if PREFIX + name in entry)
    entry = next((entry for entry in found if step is None or entry["step"] == step), None)
    return None if entry is None else entry[PREFIX + name]


def _words(name: str, values: Values, thresholds: Mapping[str, float]) -> str:
    return f"{PREFIX}{name} is {values[name]:.3g}, at or over {thresholds[name]:g}"


def _list(names: Iterable[str]) -> str:
    return f"{', '.join(names)}, or one of these of a family, as in q_proj/sar"


def _agreed(stop: bool) -> bool:
    """What the first process decided, in every process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return stop
    decided = [stop]
    torch.distributed.broadcast_object_list(decided, src=0)
    return decided[0]
