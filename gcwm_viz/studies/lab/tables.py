"""The study's tables: from stored cells to DataFrames, and those that ship with the project.

runs        one row a run and step: method, seed, order, step, update, eta, seconds; every signal of the table `steps`;
            gradient_mean, gradient_min, gradient_negative (of tasks seen so far, NaN at step 1); and
            SPLIT_METRIC_NAME, NAME as in :func:`gcwm_viz.probes.scores.downstream`, em in [0, 1], nll in nats
scores      method, seed, order, and the columns of a run's table `scores`; base and experts have no method and order
cells       method, seed, order, step, matrix, layer, family, with conflicts and gradient cosines of each matrix
choices     method, seed, order, point, dev, dev_se, best: points of the grid on the development split
ablations   seed, question, variant, eta, dev, dev_se, test, test_se (see :mod:`gcwm_viz.studies.lab.ablations`)

`order` is the tasks' names with commas. Seconds are CPU time of one thread, `train_seconds` the part before signals
and probes; training that several runs share counts in the first of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gcwm_viz.continual.engine import write_table
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import METRICS
from gcwm_viz.probes.scores import downstream, score_matrix
from gcwm_viz.signals.catalogue import SIGNALS

SHIPPED = Path(__file__).parent / "results"
TABLES = ("runs", "scores", "cells", "choices", "ablations")
GRADIENTS = tuple(column for column, signal in SIGNALS.items() if "gradients" in signal.needs)
CELL_VALUES = (
    *("conflict", "alpha", "active_conflict", "state_conflict", "state_gap", "global_gap", "incoming_conflict", "sar"),
    *GRADIENTS,
)
CELL_COLUMNS = ("step", "matrix", "layer", "family", *CELL_VALUES)
# Center mismatch and displacement need GCWM's barycenter and branches, which other methods do not have.
NOT_SIGNALS = ("matrices", "center_mismatch", "displacement", "conflict_min", "conflict_max", "alpha_min", "alpha_max")


def write_study_tables(out: Path) -> dict[str, pd.DataFrame]:
    """Write the tables of a study's finished cells into OUT/tables and return them."""
    rows: dict[str, list[Any]] = {name: [] for name in TABLES}
    for file in sorted((out / "cells").glob("*.json")):
        content = json.loads(file.read_bytes())
        cell = {"method": content["method"], "seed": content["seed"], "order": ",".join(content["order"])}
        if content["method"] == "experts":
            rows["scores"] += [cell | {"method": ""} | row for row in content["scores"]]
        elif content["method"] == "ablations":
            rows["ablations"] += [{"seed": content["seed"]} | row for row in content["ablations"]]
        else:
            rows["runs"] += [cell | row for row in _run_rows(content)]
            rows["scores"] += [cell | row for row in content["scores"] if row["model"] == "step"]
            rows["cells"] += [cell | {name: row.get(name) for name in CELL_COLUMNS} for row in content["cells"]]
            rows["choices"] += [cell | row for row in content["choices"]]
    tables = {name: pd.DataFrame(entries) for name, entries in rows.items()}
    if len(tables["cells"]):
        tables["cells"] = tables["cells"].astype(dict.fromkeys(CELL_VALUES, "float32"))
    for name, table in tables.items():
        write_table(out, name, table)
    return tables


def read_study(out: Path | None = None) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """(study.json, tables) of a study folder, by default the shipped one. Raises InputError for another folder."""
    folder = SHIPPED if out is None else out
    file = folder / "study.json"
    if not file.is_file():
        raise InputError(f"{folder} is not a study: it has no study.json")
    info = json.loads(file.read_bytes())
    tables = {}
    for name in TABLES:
        path = folder / "tables" / f"{name}.parquet"
        if not path.is_file():
            raise InputError(f"{path}: expected it in the study, found no such file")
        tables[name] = pd.read_parquet(path)
    return info, tables


def _run_rows(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    scores, order = pd.DataFrame(content["scores"]), content["order"]
    measured = {}
    for split in ("dev", "test"):
        for metric in ("em", "nll"):  # the lab's probes are prompts with answers
            higher = METRICS[metric]
            errors = score_matrix(scores, split, metric, value="se")
            table = downstream(score_matrix(scores, split, metric), order, errors=errors, higher_is_better=higher)
            measured[f"{split}_{metric}"] = table
    cells = pd.DataFrame(content["cells"])
    gradients = cells.reindex(columns=["step", *GRADIENTS]).astype("float64").groupby("step").mean()
    rows = []
    for step in content["steps"]:
        t = step["step"]
        row = {name: value for name, value in step.items() if name not in NOT_SIGNALS}
        row["eta"] = step["eta"] if content["settings"] else float("nan")  # a pipeline has none
        row |= {name: float(gradients.loc[t, name]) for name in GRADIENTS}
        for prefix, table in measured.items():
            row |= {f"{prefix}_{name}": float(table.loc[t, name]) for name in table.columns}
        rows.append(row | {"seconds": content["seconds"], "train_seconds": content["train_seconds"]})
    return rows
