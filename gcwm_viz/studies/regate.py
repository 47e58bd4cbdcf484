"""Another gate on a finished run, scored by the run's probes, without another optimisation.

Under ``all_history`` conflict and branches of a step depend on its updates alone, not on earlier merges, so another
gate only blends the stored branches with another α (equations 6 and 10). Under ``current_anchor`` the previous merge is
a member of the next active set, so another gate needs another run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.geometry.config import GCWMConfig
from gcwm_viz.geometry.gate import branch_mode, gate
from gcwm_viz.merging.merge import ABSENT, MERGED, TRAINED
from gcwm_viz.merging.registry import get_method
from gcwm_viz.probes.tasks import load_tasks
from gcwm_viz.probes.values import TaskValues, difference_error
from gcwm_viz.statistics.means import mean_error

if TYPE_CHECKING:
    from gcwm_viz.runs.run import Progress

FORMAT = "gcwm_viz.regate"
GATE_SETTINGS = ("tau", "kappa", "alpha_min", "alpha_max", "skip_tol", "gate")
UNGATED = (ABSENT, MERGED, TRAINED)
"""Modes without two branches: no update, a merge method without a gate, states of a training pipeline."""
Alphas = dict[int, tuple[float, str]]
"""(α, mode) by step, as :meth:`RunStore.state` takes it."""


def gate_config(store: RunStore, changes: Mapping[str, Any]) -> GCWMConfig:
    """The run's settings with another gate. Raises :class:`InputError` for a setting that is not of the gate."""
    for name in changes:
        if name not in GATE_SETTINGS:
            raise InputError(f"setting {name} is not one of the gate; known are {', '.join(GATE_SETTINGS)}")
    return GCWMConfig.from_dict(store.settings.gcwm.to_dict() | dict(changes))


def check_regatable(store: RunStore) -> None:
    """Raises :class:`InputError`, saying why, for a run whose gate cannot be changed afterwards."""
    where = f"run {store.path}"
    if store.file.states:
        raise InputError(f"{where} describes states of a training pipeline, so it has no gate to change")
    if not get_method(store.settings.method).conflict_gate:
        raise InputError(f"{where} was merged by {store.settings.method}, which has no gate to change")
    if store.settings.continual.policy == "current_anchor" and store.steps > 1:
        raise InputError(
            f"{where} uses the policy current_anchor: another gate changes what later steps merge, so start a new run"
        )
    if store.settings.continual.post == "svc":
        raise InputError(
            f"{where} calibrated its merges by SVC for the gate that it had, so start a new run for another gate"
        )
    store.check_finished()


def regated_alphas(store: RunStore, index: int, config: GCWMConfig) -> Alphas:
    """(α, mode) of every step of one matrix under ``config``'s gate, from the stored conflict."""
    rows = store.rows(index)["matrices"]
    return {
        int(row["step"]): regated(float(row["alpha"]), str(row["mode"]), float(row["conflict"]), config) for row in rows
    }


def regated(alpha: float, mode: str, conflict: float, config: GCWMConfig) -> tuple[float, str]:
    """(α, mode) of one merge under ``config``'s gate; as they are where no gate decided them."""
    if mode in UNGATED or math.isnan(conflict):
        return alpha, mode
    alpha = float(gate(conflict, config))
    return alpha, branch_mode(alpha, config.skip_tol)


def regate(
    store: RunStore,
    changes: Mapping[str, Any],
    device: torch.device,
    *,
    step: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score the state of ``step`` (by default the last) under another gate and as run.

    Both are scored on the same examples, so ``difference_se`` is the standard error of the mean paired difference,
    smaller than the two errors suggest. Undefined numbers are None.

    Raises :class:`InputError` for a setting not of the gate, a run without gate or probes, and changed inputs.
    """
    # Imported here, so that the app can call check_regatable without importing transformers.
    from gcwm_viz.probes.behaviour import BehaviourProbe
    from gcwm_viz.probes.live import LiveModel
    from gcwm_viz.probes.stored import state_of
    from gcwm_viz.runs.inputs import reopen_inputs

    config = gate_config(store, changes)
    check_regatable(store)
    step = store.steps if step is None else step
    if not 1 <= step <= store.steps:
        raise InputError(f"step must be 1 to {store.steps} for run {store.path}, got {step}")
    reopen_inputs(store)
    tasks = load_tasks(store.file.probes.path) if store.file.probes.where else []
    if not tasks:
        raise InputError(f"run {store.path} was started without probes that ask for answers, so nothing can be scored")
    alphas = [regated_alphas(store, index, config) for index in range(len(store.keys))]
    model = LiveModel(store, device)
    rest = model.outside(state_of(store, step))
    probe = BehaviourProbe(model.tokenizer, tasks)

    def examples(number: int, label: str, another: bool) -> list[TaskValues]:
        model.set_updates(
            [*(store.state(index, step, alphas[index] if another else None) for index in range(len(store.keys))), *rest]
        )
        values = probe.measure(model.model, device)
        if progress:
            progress("states scored", number, 2, label)
        return values

    before, after = examples(1, "as run", False), examples(2, "another gate", True)
    return {
        "format": FORMAT,
        "schema": 1,
        "run": store.file.name,
        "step": step,
        "update": store.updates[step - 1],
        "gate": {name: getattr(config, name) for name in GATE_SETTINGS},
        "gate_as_run": {name: getattr(store.settings.gcwm, name) for name in GATE_SETTINGS},
        "matrices": _matrix_rows(store, step, alphas),
        "scores": _score_rows(before, after),
    }


def _matrix_rows(store: RunStore, step: int, alphas: list[Alphas]) -> list[dict[str, Any]]:
    rows = []
    for index, key in enumerate(store.keys):
        row = store.rows(index)["matrices"][step - 1]
        alpha, mode = alphas[index][step]
        rows.append(
            {
                "matrix": key.name,
                "conflict": _number(row["conflict"]),
                "alpha_as_run": _number(row["alpha"]),
                "mode_as_run": row["mode"],
                "alpha": _number(alpha),
                "mode": mode,
            }
        )
    return rows


def _score_rows(before: list[TaskValues], after: list[TaskValues]) -> list[dict[str, Any]]:
    """One row a task and metric, in task order, from the values of every example."""
    rows = []
    for task, again in zip(before, after, strict=True):
        for metric, old in task.metrics.items():
            new = again.metrics[metric]
            row: dict[str, Any] = {"task": task.name, "split": task.split, "metric": metric, "n": len(old)}
            errors = (mean_error(old), mean_error(new), difference_error(metric, new - old))
            for name, values, error in zip(
                ("as_run", "regated", "difference"), (old, new, new - old), errors, strict=True
            ):
                row[name], row[f"{name}_se"] = _number(float(values.mean())), _number(error)
            rows.append(row)
    return rows


def _number(value: float) -> float | None:
    """None where undefined: an error over one example, or non-finite logits."""
    return None if not math.isfinite(value) else float(value)
