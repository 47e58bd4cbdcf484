"""Calibrated integration of a run: base + c_0 W + Σ_i c_i Δ_i, with coefficients fitted on development probes.

    RUN/calibration/calibration.json      the run by fingerprint, settings and precision
    RUN/calibration/fit.safetensors       coefficients, Adam's moments and losses so far, rewritten after every pass
    RUN/calibration/fitted.json           what was seen, the passes, and why the fit stopped
    RUN/calibration/values.json           values of every example of every task, of the calibrated model
    RUN/calibration/tables/NAME.parquet   calibration, calibration_curve, calibration_scores
    RUN/calibration/journal.jsonl         progress

W is the run's final state, at its η. It is supervised, and per matrix where AdaMerging's coefficients are per layer
(arXiv 2310.02575). The fit takes no probe of the test split; both splits are scored at the end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from gcwm_viz.attribution.attribute import PRECISIONS
from gcwm_viz.calibration.blend import BlendLoss, present, read_sources
from gcwm_viz.calibration.coefficients import Coefficients, blended
from gcwm_viz.calibration.fit import Fit, Fitted, run_fit
from gcwm_viz.calibration.prior import chosen_cells, penalties, prior_scores
from gcwm_viz.calibration.result import (
    FIT,
    FITTED,
    FOLDER,
    VALUES,
    coefficient_rows,
    curve_rows,
    read_values,
    score_rows,
)
from gcwm_viz.calibration.sample import Sample, draw
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.checkpoints.atomic import write_bytes, write_json
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.store import RunStore
from gcwm_viz.engines.memory import available_memory
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.linalg.threads import threads_of
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.loss import LossTask
from gcwm_viz.probes.stored import read_examples, state_of
from gcwm_viz.probes.tasks import load_split, load_tasks
from gcwm_viz.probes.values import TaskValues, to_json
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import OpenInputs, check_outside, reopen_inputs
from gcwm_viz.runs.run import Progress
from gcwm_viz.runs.tables import LATER, read_table

FORMAT = "gcwm_viz.calibration"


def calibrate(
    run: Path | str,
    settings: CalibrationSettings | None = None,
    out: Path | None = None,
    *,
    precision: str = PRECISIONS[0],
    recompute: bool = False,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The table ``calibration_scores`` of a finished merge, after fitting its coefficients; resumes an earlier call.

    L(c) is the mean over tasks of the mean loss of their development probes. ``out``: another folder for the results,
    by default RUN/calibration, where the app and the command ``export`` look. ``precision``: of the matrix products of
    the fit; the scores have the run's own. ``recompute``: activations are computed again in the backward pass, which
    takes less memory and changes no result. ``device``: by default the CPU. More ``passes`` than before go on with the
    same fit.

    Raises ``InputError`` for an unfinished run, one of a training pipeline, one without development probes that
    have a loss, changed inputs, another calibration in the folder, too little memory, and a loss that is not finite,
    and ``gcwm_viz.continual.folder.WorkCancelledError`` when a file ``cancel`` appears in the folder.
    """
    settings = settings or CalibrationSettings()
    if precision not in PRECISIONS:
        raise InputError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    store, device = RunStore.open(Path(run)), device or torch.device("cpu")
    _check_run(store)
    opened = reopen_inputs(store)
    sample = draw(_development_tasks(store), settings.held_out, settings.probes_per_task, settings.seed)
    passes = settings.most_passes(bool(sample.held_out))
    _check_memory(store, opened, device)
    out = out or store.path / FOLDER
    if out != store.path / FOLDER:
        check_outside(out, opened)
    hint = f"give its options, or delete {out} to begin again"
    folder = ResultFolder(out, "calibration.json", "a calibration with", progress, hint=hint)
    about = _about(store, settings, precision) | {"passes": passes}
    with folder.work(about, same=[name for name in about if name != "passes"]):
        if not _is_complete(out, passes):
            for file in (out / FITTED, out / VALUES):
                file.unlink(missing_ok=True)
            try:
                with threads_of(opened.base.parameters):
                    _compute(store, folder, settings, sample, passes, precision, recompute, device)
            except torch.OutOfMemoryError:
                raise InputError(
                    f"{device}: its memory does not suffice for the gradients of this model, expected a larger "
                    "device, --recompute or --dtype bfloat16"
                ) from None
        folder.log("complete")
    return read_table(out / "tables" / "calibration_scores.parquet")


def _compute(
    store: RunStore,
    folder: ResultFolder,
    settings: CalibrationSettings,
    sample: Sample,
    passes: int,
    precision: str,
    recompute: bool,
    device: torch.device,
) -> None:
    out, half = folder.path, precision == "bfloat16"
    live = LiveModel(store, device, torch.float32)
    sources = read_sources(live)
    scores_k = prior_scores(store, sources, settings.prior, settings.seed)
    there_jk = present(sources, settings) & chosen_cells(scores_k, settings.cells, store.keys)
    coefficients = Coefficients.of(store.keys, there_jk, settings.per)
    if not len(coefficients.start_n):
        raise InputError(f"run {store.path}: its merged state is zero, so it has no coefficient to fit")
    fit = Fit.read(out / FIT, coefficients.start_n)
    if fit.passes > passes:
        fit = Fit.begin(coefficients.start_n)

    def keep(fit: Fit) -> None:
        fit.write(out / FIT)
        loss = f"{float(fit.fitted_p[-1]):.4f}"
        held = f", held out {float(fit.held_p[-1]):.4f}" if len(fit.held_p) else ""
        folder.tell("passes", fit.passes, passes, f"{settings.objective} {loss}{held}", event="pass")

    weights_k = torch.ones_like(scores_k) if settings.prior == "none" else penalties(scores_k)
    ridge_n = settings.ridge * coefficients.means(weights_k)
    objective = BlendLoss(live, sources, coefficients, sample, settings.objective, half=half, recompute=recompute)
    fitted = run_fit(objective, fit, coefficients.start_n, ridge_n, settings, passes, keep)
    updates = blended(sources, coefficients.factors(fitted.values_n))
    del objective, live  # two models would be in memory otherwise
    merged, calibrated = _scored(store, updates, device)
    folder.tell("scored", 1, 1, "calibrated model", event="probe")
    write_table(out, "calibration", pd.DataFrame(coefficient_rows(store, sources, coefficients, fitted.values_n)))
    write_table(out, "calibration_curve", pd.DataFrame(curve_rows(fitted)))
    write_table(out, "calibration_scores", pd.DataFrame(score_rows(merged, calibrated)))
    write_bytes(out / VALUES, json.dumps(to_json(calibrated)).encode())
    write_json(out / FITTED, _summary(fitted, sample, settings, passes, len(coefficients.start_n)))


def _scored(
    store: RunStore, updates: Sequence[Update | None], device: torch.device
) -> tuple[list[TaskValues], list[TaskValues]]:
    """Values of every example of every task and split, of the merged model and the calibrated one."""
    live = LiveModel(store, device)
    probe = BehaviourProbe(live.tokenizer, load_tasks(store.file.probes.path))
    own = {(values.split, values.name): values for values in read_examples(store, store.steps)}
    wanted = [(task.split, task.name) for task in probe.tasks]
    if not own.keys() >= set(wanted):
        live.set(state_of(store, store.steps))
        own = {(values.split, values.name): values for values in probe.measure(live.model, device)}
    live.set_updates(list(updates))
    return [own[key] for key in wanted], probe.measure(live.model, device)


def _summary(fitted: Fitted, sample: Sample, settings: CalibrationSettings, passes: int, count: int) -> dict[str, Any]:
    return {
        "sees": "development probes"
        if settings.objective == "nll"
        else "prompts of development probes, without answers",
        "probes": sample.counts,
        "coefficients": count,
        "passes": passes,
        "measured": len(fitted.fitted_p),
        "best_pass": fitted.best_pass,
        "stop": fitted.stop,
    }


def _is_complete(out: Path, passes: int) -> bool:
    """Whether the folder holds the result for so many passes."""
    try:
        done = json.loads((out / FITTED).read_bytes())
        read_values(out)
    except (OSError, ValueError):
        return False
    tables = all((out / "tables" / f"{name}.parquet").is_file() for name in LATER[FOLDER])
    return tables and isinstance(done, dict) and done.get("passes") == passes


def _check_run(store: RunStore) -> None:
    store.check_finished()
    store.check_merge("to calibrate")
    store.check_kept("a calibration")
    if store.file.probes.where is None:
        raise InputError(
            f"run {store.path} has no probes to calibrate on; `gcwm-viz score {store.path} --probes DIR` gives it some"
        )


def _development_tasks(store: RunStore) -> list[LossTask]:
    """The development tasks; no file of the test split is opened."""
    tasks = load_split(store.file.probes.path, "dev")
    if not tasks:
        raise InputError(
            f"{store.file.probes.where}: expected development probes dev/NAME.jsonl to calibrate on, found none"
        )
    return tasks


def _about(store: RunStore, settings: CalibrationSettings, precision: str) -> dict[str, Any]:
    file = store.file
    return {
        "format": FORMAT,
        "settings": store.settings.to_dict(),
        "base": file.base.fingerprint,
        "updates": [[entry.name, entry.fingerprint] for entry in file.updates],
        "probes": file.probes.fingerprint,
        "probe precision": file.probes.dtype,
        "precision": precision,
        **settings.to_dict(),
    }


def _check_memory(store: RunStore, opened: OpenInputs, device: torch.device) -> None:
    """An estimate: the weights, the state and all updates, one gradient, and twice what scoring adds."""
    base, sources = opened.base, 1 + len(store.updates)
    need = 4 * base.parameters + 4 * max(key.parameters for key in store.keys)
    for key, rank in zip(store.keys, opened.ranks, strict=True):
        need += 4 * (sources * key.parameters if rank is None else 2 * rank * sum(key.shape))
    need += 2 * max(0, (store.file.probes.memory or 0) - base.parameters * store.probe_dtype.itemsize)
    free = available_memory() if device.type == "cpu" else None
    if free is not None and need > free:
        raise InputError(
            f"run {store.path}: its calibration needs about {need / 1e9:.1f} GB of memory for the weights, the updates "
            f"and a gradient, {free / 1e9:.1f} GB are free"
        )
