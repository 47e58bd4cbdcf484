"""What a calibration leaves: rows of its tables, and the calibrated update of every matrix read back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from gcwm_viz.calibration.coefficients import Coefficients, combined
from gcwm_viz.calibration.fit import Fitted
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update
from gcwm_viz.probes.values import TaskValues, difference_error, from_json
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import mean_error
from gcwm_viz.updates.matrices import depth

FOLDER = "calibration"
"""Folder of the results inside the run."""
FIT, FITTED, VALUES = "fit.safetensors", "fitted.json", "values.json"
STOPS = {"held-out": "the held-out loss no longer fell", "passes": "its passes were used up"}
"""Why a fit ended, in words, by the entry ``stop`` of fitted.json."""
STATE = "state"
"""Kind and source of c_0's rows."""


def coefficient_rows(
    store: RunStore, sources: Sequence[Sequence[Update | None]], coefficients: Coefficients, values_n: Tensor
) -> list[dict[str, Any]]:
    """The rows of the table ``calibration``: matrices in model order, the state before the updates."""
    factors_jk = coefficients.factors(values_n)
    names = _sources(store)
    rows = []
    for k, key in enumerate(store.keys):
        for j, (kind, source) in enumerate(names):
            absent = sources[j][k] is None
            reason = "it does not change this matrix" if absent else ""
            value = math.nan if absent else float(factors_jk[j, k])
            row = {"matrix": key.name, "layer": key.layer, "family": key.family, "kind": kind, "source": source}
            rows.append(row | {"value": value, "fitted": bool(coefficients.place_jk[j, k] >= 0), "reason": reason})
    return rows


def curve_rows(fitted: Fitted) -> list[dict[str, Any]]:
    held = fitted.held_p.tolist() or [math.nan] * len(fitted.fitted_p)
    return [
        {"pass": p, "fitted": loss, "held_out": other, "kept": p == fitted.best_pass}
        for p, (loss, other) in enumerate(zip(fitted.fitted_p.tolist(), held, strict=True))
    ]


def score_rows(merged: Sequence[TaskValues], calibrated: Sequence[TaskValues]) -> list[dict[str, Any]]:
    """The rows of the table ``calibration_scores``, differences paired on the same examples."""
    rows = []
    for before, after in zip(merged, calibrated, strict=True):
        for row in after.rows():
            own, other = after.metrics[row["metric"]], before.metrics[row["metric"]]
            rows.append(
                {"model": "calibrated"}
                | {name: row[name] for name in ("task", "split", "metric", "value", "se")}
                | {"merged_value": float(other.mean()), "merged_se": mean_error(other)}
                | {"difference": float((own - other).mean())}
                | {"difference_se": difference_error(row["metric"], own - other), "n": row["n"]}
            )
    return rows


@dataclass(frozen=True)
class Calibrated:
    """The calibrated model of a run: its coefficients, and the update of every matrix.

    ``factors``: of the state and every update, by matrix; 0 where a source has none.
    """

    store: RunStore
    base: CheckpointIndex
    factors: dict[str, list[float]]

    @classmethod
    def of(cls, store: RunStore, base: CheckpointIndex) -> Calibrated:
        """Raises :class:`InputError` for a run that was not calibrated, or not to the end."""
        table = Run(store).tables["calibration"]
        if table.empty or not (store.path / FOLDER / FITTED).is_file():
            raise InputError(
                f"run {store.path} has no finished calibration; compute it with: gcwm-viz calibrate {store.path}"
            )
        return cls(store, base, _factors(store, table))

    def by_layer(self) -> list[list[float]] | None:
        """What the state and every update are multiplied by in each layer, from the first to the last; None where that
        differs within a layer. A source that changes no matrix of a layer has 0 there."""
        table = Run(self.store).tables["calibration"].dropna(subset="value")
        sources = _sources(self.store)
        found = {key: set(own) for key, own in table.groupby(["layer", "kind", "source"])["value"]}
        if any(len(values) > 1 for values in found.values()):
            return None
        layers = range(depth(self.store.keys))
        return [[float(next(iter(found.get((layer, *source), {0.0})))) for source in sources] for layer in layers]

    def update(self, place: int) -> Update | None:
        """c_0 W + Σ_i c_i Δ_i of the ``place``-th matrix, as the fit had it; None where it is zero."""
        key = self.store.keys[place]
        state = self.store.stored_state(place, self.store.steps)
        deltas = [entry.open(self.base).delta(key) for entry in self.store.file.updates]
        return combined([state, *deltas], self.factors[key.name])


def read_fitted(folder: Path) -> dict[str, Any]:
    """What the fit of a calibration's folder saw, its passes and why it stopped; empty where there is none."""
    try:
        content = json.loads((folder / FITTED).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_values(folder: Path) -> list[TaskValues]:
    """Values of every example of every task, of the calibrated model of a calibration's folder."""
    return from_json(json.loads((folder / VALUES).read_bytes()))


def _sources(store: RunStore) -> list[tuple[str, str]]:
    """(kind, source) of the state and every update, as the tables name them."""
    return [(STATE, STATE), *(("update", name) for name in store.updates)]


def _factors(store: RunStore, table: pd.DataFrame) -> dict[str, list[float]]:
    columns = _sources(store)
    places = zip(table["matrix"], table["kind"], table["source"], strict=True)
    values = dict(zip(places, table["value"].fillna(0.0).astype(float), strict=True))
    try:
        return {key.name: [values[key.name, kind, source] for kind, source in columns] for key in store.keys}
    except KeyError as error:
        raise InputError(f"run {store.path}: its table of coefficients lacks {error.args[0]}") from None
