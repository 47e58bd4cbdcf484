"""Choice of coefficients on the development split, and its score on the test split.

    OUT/tune.json                 what all points share: method, preset, inputs and probes by fingerprint
    OUT/merges/SETTINGS/          final merges under the settings that differ before the merge
    OUT/scores/SETTINGS.json      scores of the final step for each point of the grid
    OUT/tables/tune.parquet       the table

Only the final step is merged and probed. η and its decay act after the merge, so points that differ in them alone share
one.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from gcwm_viz.checkpoints.atomic import write_bytes
from gcwm_viz.continual.config import as_written_now
from gcwm_viz.continual.engine import write_table
from gcwm_viz.continual.final_folder import FinalFolder
from gcwm_viz.continual.final_work import Sources, merge_finals
from gcwm_viz.continual.run_file import PROBE_DTYPES
from gcwm_viz.continual.session import begin_session
from gcwm_viz.engines.engine import Engine
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import METRICS, headline, rows_of_metric
from gcwm_viz.probes.tasks import SPLITS, load_tasks, probes_fingerprint
from gcwm_viz.runs.folder import ResultFolder
from gcwm_viz.runs.inputs import Inputs, OpenInputs, check_outside, open_inputs, printable, probe_entry
from gcwm_viz.runs.run import Progress
from gcwm_viz.studies.finals import MergedState, Model, scores
from gcwm_viz.studies.grid import Grid, Point, distinct, grid_points, word

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
    on: torch.device | Engine | None = None,
    workers: int | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Score the final step at every point of the grid: the product of ``grid``'s values, settings by name.

    Columns: the grid's settings; dev, dev_se, test, test_se: ``metric`` (of :mod:`gcwm_viz.probes.metrics`; by default
    exact match or accuracy, whichever the probes measure) as a mean over tasks, and its standard error with tasks as
    independent; test is NaN without a test split; best: the best point on dev, the first of equal ones; merge: folder
    of its merges below ``out``.
    ``fixed``: other settings of the preset to replace. ``on``: an engine or a device, by default the CPU; ``workers``:
    processes at a time on a device. ``memory_budget``: bytes for all workers.
    Resumes an earlier call with the same inputs, and may add points. Raises :class:`InputError` for an unknown setting
    or metric, an empty grid, inputs without development probes, and an ``out`` that belongs to another comparison, and
    :class:`~gcwm_viz.continual.folder.WorkCancelledError` when OUT/cancel appears.
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
    engine = on if isinstance(on, Engine) else LocalEngine(on or torch.device("cpu"), workers)
    opened = open_inputs(inputs)
    check_outside(out, opened)
    folder = ResultFolder(out, "tune.json", "a comparison with", progress)
    with folder.work(_comparison(inputs, opened, method, preset)):
        probes = probe_entry(opened.base, inputs.probes, inputs.probe_dtype)  # before hours of merging
        updates = tuple((each.name, printable(each.path), each.strength) for each in opened.sources)
        sources = Sources(printable(inputs.base), updates)
        merges = _merges(out, points, [source.name for source in opened.sources])
        todo = {point.name: point for point in points if not _is_scored(out, point)}
        session = begin_session(out)
        merge_finals(
            out,
            session,
            [merges[name] for name in dict.fromkeys(point.merge for point in todo.values())],
            sources,
            opened.plan.active,
            engine,
            partial(folder.tell, "matrices", event="matrix"),
            memory_budget,
            opened.ranks,
        )
        states = {name: MergedState(merges[p.merge], p.settings.continual) for name, p in todo.items()}
        done = len(points) - len(todo)
        (out / "scores").mkdir(exist_ok=True)
        model = Model(sources, tuple(opened.plan.active), probes)
        for name, values in scores(model, states, engine, session, memory_budget):
            rows = [row for task in values for row in task.rows()]
            content = {"settings": todo[name].settings.to_dict(), "scores": rows}
            write_bytes(_scores_file(out, todo[name]), json.dumps(content).encode())
            done += 1
            folder.tell("points", done, len(points), name, event="point")
        frame = _table(out, points, metric)
        write_table(out, "tune", frame)
        folder.log("complete", done=len(points), total=len(points))
    return frame


def _merges(out: Path, points: Sequence[Point], updates: Sequence[str]) -> dict[str, FinalFolder]:
    """A folder for each merge that differs, by name; with the merges of every step where a point's η decays."""
    # A constant η, which sorts last, takes the last step alone; the first point of a merge decides.
    ordered = sorted(points, key=lambda point: point.settings.continual.decay == 1.0)
    folders: dict[str, FinalFolder] = {}
    for point in ordered:
        folders.setdefault(point.merge, FinalFolder(out / "merges" / point.merge, tuple(updates), point.settings))
    return folders


def _is_scored(out: Path, point: Point) -> bool:
    file = _scores_file(out, point)
    return file.is_file() and as_written_now(json.loads(file.read_bytes())["settings"]) == point.settings.to_dict()


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
        rows.append(row | {"merge": f"merges/{point.merge}"})
    frame = pd.DataFrame(rows)
    for name in points[0].values:  # a column of one type: numbers, or texts as on the command line
        if not pd.api.types.is_numeric_dtype(frame[name]) or frame[name].isna().any():
            frame[name] = [word(point.values[name]) for point in points]
    dev = frame["dev"] if metric and METRICS[metric] else -frame["dev"]
    frame.insert(len(frame.columns) - 1, "best", False)
    if dev.notna().any():
        frame.loc[dev.idxmax(), "best"] = True
    return frame


def _comparison(inputs: Inputs, opened: OpenInputs, method: str, preset: str) -> dict[str, Any]:
    """What all points share; comparisons of an earlier version have no precision, which was the default."""
    precision = {} if inputs.probe_dtype == PROBE_DTYPES[0] else {"probe_dtype": inputs.probe_dtype}
    chosen = {"targets": choice} if (choice := inputs.choice.to_json()) else {}
    return (
        precision
        | chosen
        | {
            "format": FORMAT,
            "method": method,
            "preset": preset,
            "base": opened.base.fingerprint(),
            "updates": [[source.name, source.fingerprint()] for source in opened.sources],
            "probes": probes_fingerprint(inputs.probes) if inputs.probes else None,
        }
    )


def _scores_file(out: Path, point: Point) -> Path:
    return out / "scores" / f"{point.name}.json"
