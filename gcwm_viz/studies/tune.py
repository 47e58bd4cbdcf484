"""Choice of coefficients on the development split, and its score on the test split.

    OUT/tune.json                 what all points share: method, preset, inputs and probes by fingerprint
    OUT/runs/SETTINGS/            an ordinary run folder for each merge that differs
    OUT/scores/SETTINGS.json      scores of the final step for each point of the grid
    OUT/tables/tune.parquet       the table

η and its decay act after the merge, so points that differ in them alone share one run. Only the final step is probed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.config import RunSettings, as_written_now
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.merged import MergedModel
from gcwm_viz.probes.metrics import METRICS, headline, rows_of_metric
from gcwm_viz.probes.preflight import preflight
from gcwm_viz.probes.tasks import SPLITS, Task, load_tasks, probes_fingerprint
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import Inputs, open_inputs
from gcwm_viz.runs.run import Progress, continue_run, create_run
from gcwm_viz.studies.grid import AFTER_MERGE, Grid, Point, distinct, grid_points, word

FORMAT = "gcwm_viz.tune"


def tune(
    inputs: Inputs,
    out: Path,
    method: str,
    preset: str,
    grid: Grid,
    *,
    metric: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score the final step at every point of the grid: the product of ``grid``'s values, settings by name.

    Columns: the grid's settings; dev, dev_se, test, test_se: ``metric`` (of :mod:`gcwm_viz.probes.metrics`; by default
    exact match or accuracy, whichever the probes measure) as a mean over tasks, and its standard error with tasks as
    independent; test is NaN without a test split; best: the best point on dev, the first of equal ones; run: folder of
    the merge below ``out``.
    ``fixed``: other settings of the preset to replace. Resumes an earlier call with the same inputs, and may add
    points. Raises :class:`InputError` for an unknown setting or metric, an empty grid, inputs without
    development probes, and an ``out`` that belongs to another comparison.
    """
    if not grid or not all(grid.values()):
        raise InputError("a grid needs at least one setting with at least one value")
    if not all(map(distinct, grid.values())):
        raise InputError("a grid lists every value of a setting once")
    points = grid_points(grid, method, preset, fixed)
    if metric is not None and metric not in METRICS:
        raise InputError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    if inputs.states:
        raise InputError("states of a training pipeline have no coefficients to choose")
    if inputs.probes is None:
        raise InputError("choosing coefficients needs a folder of probes")
    tasks = load_tasks(inputs.probes)
    if not any(task.split == "dev" for task in tasks):
        raise InputError(f"{inputs.probes}: expected development probes dev/NAME.jsonl to choose on, found none")
    device = device or torch.device("cpu")
    folder = ResultFolder(out, "tune.json", "a comparison with", progress)
    with folder.work(_comparison(inputs, method, preset)):
        preflight(CheckpointIndex.open(inputs.base), inputs.probes, inputs.probe_dtype)
        merge_inputs = replace(inputs, probes=None)
        merges: dict[str, Point] = {}
        for point in points:
            merges.setdefault(point.merge, point)
        for name, point in merges.items():
            store = _run(merge_inputs, out / "runs" / name, point.settings)
            if store.status() != "complete":
                continue_run(store, device, workers=workers, progress=partial(_tell, folder, name))
        _score(inputs, folder, points, tasks, device)
        frame = _table(out, points, metric)
        write_table(out, "tune", frame)
        folder.log("complete", done=len(points), total=len(points))
    return frame


def _tell(folder: ResultFolder, run: str, phase: str, done: int, total: int, label: str) -> None:
    folder.tell(f"{phase} {run}", done, total, label)


def _score(
    inputs: Inputs, folder: ResultFolder, points: Sequence[Point], tasks: Sequence[Task], device: torch.device
) -> None:
    """Score every point that has no stored scores; the model is loaded once."""
    model: MergedModel | None = None
    probe: BehaviourProbe | None = None
    for done, point in enumerate(points, start=1):
        file = _scores_file(folder.path, point)
        stored = json.loads(file.read_bytes()) if file.is_file() else None
        if stored and as_written_now(stored["settings"]) == point.settings.to_dict():
            continue
        run = RunStore.open(folder.path / "runs" / point.merge)
        store = RunStore(run.path, replace(run.file, settings=point.settings))
        if model is None or probe is None:
            model = MergedModel(open_inputs(inputs).base, store, device)
            probe = BehaviourProbe(model.tokenizer, tasks)
        model.set_updates([store.state(index, store.steps) for index in range(len(store.keys))])
        file.parent.mkdir(exist_ok=True)
        scores = {"settings": point.settings.to_dict(), "scores": probe.score(model.model, device)}
        write_bytes(file, json.dumps(scores).encode())
        folder.tell("points", done, len(points), point.name, event="point")


def _table(out: Path, points: Sequence[Point], metric: str | None) -> pd.DataFrame:
    rows = []
    for point in points:
        scores = pd.DataFrame(json.loads(_scores_file(out, point).read_bytes())["scores"])
        metric = metric or headline(scores)
        row = dict(point.values)
        for split in SPLITS:
            tasks = rows_of_metric(scores[scores["split"] == split], metric)
            row[split] = float(np.mean(tasks["value"])) if len(tasks) else float("nan")
            row[f"{split}_se"] = float(np.sqrt(np.square(tasks["se"]).sum())) / len(tasks) if len(tasks) else math.nan
        rows.append(row | {"run": f"runs/{point.merge}"})
    frame = pd.DataFrame(rows)
    for name in points[0].values:  # a column of one type: numbers, or texts as on the command line
        if not pd.api.types.is_numeric_dtype(frame[name]) or frame[name].isna().any():
            frame[name] = [word(point.values[name]) for point in points]
    dev = frame["dev"] if metric and METRICS[metric] else -frame["dev"]
    frame.insert(len(frame.columns) - 1, "best", False)
    if dev.notna().any():
        frame.loc[dev.idxmax(), "best"] = True
    return frame


def _run(inputs: Inputs, folder: Path, settings: RunSettings) -> RunStore:
    if not (folder / "run.json").is_file():
        return create_run(inputs, folder, settings)
    store = RunStore.open(folder)
    if _merge_settings(store.settings) != _merge_settings(settings):
        raise InputError(f"run {folder} has other settings than its name says; use another output folder")
    return store


def _merge_settings(settings: RunSettings) -> dict[str, Any]:
    values = settings.to_dict()
    values["continual"] = {name: value for name, value in values["continual"].items() if name not in AFTER_MERGE}
    return values


def _comparison(inputs: Inputs, method: str, preset: str) -> dict[str, Any]:
    """What all points share; comparisons of an earlier version have no precision, which was the default."""
    opened = open_inputs(inputs)
    precision = {} if inputs.probe_dtype == PROBE_DTYPES[0] else {"probe_dtype": inputs.probe_dtype}
    return precision | {
        "format": FORMAT,
        "method": method,
        "preset": preset,
        "base": opened.base.fingerprint(),
        "updates": [[source.name, source.fingerprint()] for source in opened.sources],
        "probes": probes_fingerprint(inputs.probes) if inputs.probes else None,
    }


def _scores_file(out: Path, point: Point) -> Path:
    return out / "scores" / f"{point.name}.json"
