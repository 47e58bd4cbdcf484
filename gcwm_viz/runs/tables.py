"""A run folder as tidy DataFrames with documented columns.

Conflicts are in [0, 1], higher = more conflict. α is in [0, 1], higher = more of the geometry branch. Norms are
Frobenius norms of weights. Undefined values are NaN, and the column ``reason`` says why.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gcwm_viz.continual.gather import gathered
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import own_metric
from gcwm_viz.probes.stored import checkpoints, gathered_scores, read_examples
from gcwm_viz.signals.catalogue import computed

_PLACE = {
    "step": "step, 1 … T",
    "matrix": "name of the base tensor",
    "layer": "index of the decoder block",
    "family": "module family, such as q_proj",
}
_METRIC = "em, acc, acc_norm (higher = better); nll, ppl, bpb (lower = better): see gcwm_viz/probes/metrics.py"
_SCORE = {
    "task": "probe task",
    "split": "dev or test",
    "metric": _METRIC,
    "value": "mean over examples",
    "se": "its standard error",
    "n": "examples",
}
_COLUMNS: dict[str, dict[str, str]] = {
    "matrices": _PLACE
    | {
        "update": "update that arrives at this step",
        "d_out": "rows of the matrix",
        "d_in": "columns of the matrix",
        "active": "active updates that touch this matrix",
        "mode": "blend, plain, geo; absent (no update); merged (method without branches); trained (given states)",
    }
    | {
        "lam": "λ in use",
        "barycenter_iterations": "iterations of the barycenter",
        "barycenter_residual": "its relative residual",
        "barycenter_converged": "whether that is within the tolerance",
        "plain_objective": "objective of the plain branch over its value at Σ Δ_i; NaN where that is 0",
        "geo_objective": "the same for the geometry branch, in whitened coordinates",
        "plain_minimum": "the lowest value that plain_objective can reach (closed form, μ_rel = 1e-6)",
        "geo_minimum": "the same for the geometry branch",
        "solver_iterations": "iterations of the inner solver",
        "solver_residual": "relative norm of its gradient at the end, the larger of both branches",
        "solver_converged": "whether both branches ended stationary",
        "reason": "why values of this row are undefined, or empty",
        "seconds": "time spent on this matrix, all steps (from the journal)",
    },
    "pairs": _PLACE
    | {
        "kind": "active (two updates), state (update and S_t) or incoming (arriving update and S_{t−1})",
        "i": "update",
        "j": "update, or 'state'",
        "conflict": "γ in the pair's own basis at the analysis rank",
        "gate_conflict": "γ in the union basis at the gate's rank; NaN unless active",
        "sar_ij": "SAR i→j: share of Δ_i read by the subspace of Δ_j",
        "sar_ji": "SAR j→i",
        "principal_angles": "degrees in [0, 90], ascending, between both subspaces at the gate's rank; 0 = a shared "
        "direction; empty unless active",
        "reason": "why γ is undefined, or empty",
    },
    "spectra": _PLACE
    | {
        "source": "update name, 'mean', 'barycenter' or 'state'",
        "kind": "update, mean, barycenter or state",
        "eigenvalues": "eigenvalues, descending; of an update the retained ones (the rest of the union basis is λ), "
        "of the state σ²",
        "union_rank": "dimension of the union basis",
        "lam": "λ in use",
    },
    "barycenter": _PLACE
    | {
        "iteration": "iteration of the barycenter, 0 = its start",
        "residual": "relative residual ‖Φ(B) − B‖ / ‖B‖ of its fixed point there",
    },
    "solver": _PLACE
    | {
        "branch": "plain or geo",
        "iteration": "iteration, 0 = the plain sum of updates",
        "objective": "WUDI objective, without the proximal term; the geometry branch's is in whitened coordinates",
        "shift": "‖D‖, distance from the plain sum in the branch's own coordinates (whitened for the geometry branch)",
        "relative_shift": "the same over the norm of the plain sum in those coordinates; NaN where that is 0",
    },
    "steps": {"step": "step", "update": "arriving update", "eta": "η_t", "matrices": "matrices with an active update"},
    "updates": {
        "index": "place in the order of arrival, 1 … T",
        "update": "name",
        "path": "folder as given",
        "kind": "checkpoint, adapter or delta",
        "strength": "s, what its Δ was multiplied by before anything else (from run.json); 1 unless chosen",
        "matrices": "target matrices that it touches",
        "norm": "s‖θ_t − θ_pre‖ over all floating tensors",
        "target_norm": "the same over target matrices",
        "outside_share": "share of the squared norm outside the target matrices, which is ignored",
        "rounding": "relative rounding error of Δ from half-precision inputs, NaN where not applicable",
        "note": "remarks of the check",
    },
    "rounding": {
        "step": "step of the update",
        "update": "update that comes from a half-precision checkpoint",
        "matrix": "name of the base tensor",
        "layer": "index of the decoder block",
        "family": "module family, such as q_proj",
        "rounding": "estimated ‖rounding error of Δ‖/‖Δ‖ of this matrix; 0 = exact, 1 = as large as the update",
    },
    "scores": {
        "model": "base, expert or step",
        "step": "0 for the base, else the index of the expert or step",
        "update": "update of the expert, or arriving at the step",
    }
    | _SCORE,
    "strength": {
        "strength": "factor of the final state S_T; the merged model has 1",
        "task": "probe task; development split alone",
        "metric": _METRIC,
        "value": "mean over examples of the model at base + strength · S_T",
        "se": "its standard error",
        "n": "examples",
    },
    "representation": {
        "model": "base, expert or step",
        "step": "0 for the base, else the index of the expert or step",
        "update": "update of the expert, or arriving at the step",
        "dataset": "labelled set",
        "layer": "hidden state, 0 = embeddings",
        "accuracy": "cross-validated accuracy of a linear probe, higher = better",
        "se": "its standard error",
        "n": "examples",
        "chance": "accuracy of always guessing the largest class",
    },
    "plans": {
        "plan": "a plan, by a digest of its strengths; of the run's settings, like leave_one_out",
        "strengths": "JSON: update → strength on top of the run's own; one that is missing was left out",
    }
    | _SCORE,
    "leave_one_out": {
        "left_out": "update without which the others were merged; of the final step, like all of this row",
        "task": "probe task",
        "split": "dev or test",
        "metric": _METRIC,
        "value": "mean over examples without the update",
        "se": "its standard error",
        "full_value": "mean over examples with all updates",
        "full_se": "its standard error",
        "difference": "value − full_value: above zero (nll, ppl, bpb: below) the task is better off without it",
        "difference_se": "its standard error, paired on the same examples; for em and acc at least 1/(n + 2)",
        "n": "examples",
    },
    "attribution": {
        "start": "state where the path begins, 0 = the base",
        "step": "state where it ends",
        "task": "probe task",
        "split": "dev or test",
        "matrix": "name of the base tensor",
        "layer": "index of the decoder block; -1 for a tensor outside the target matrices",
        "family": "module family, such as q_proj; outside for a tensor outside the target matrices",
        "value": "share of the task's change of loss, nats per token; positive = this matrix made the task worse",
        "change": "loss at the end less that at the start, nats per token; the sum of value up to the residual",
        "nodes": "nodes of the quadrature along the path",
        "residual": "|sum of value - change|, nats per token, of the task and path",
        "converged": "whether that is at most 2 % of |change| or 0.001 nats",
    },
    "interpolation": {
        "start": "state where the path begins, 0 = the base",
        "step": "state where it ends",
        "lam": "place on the path: 0 = start, 1 = end, above 1 = beyond it",
    }
    | _SCORE,
    "calibration": {
        "matrix": "name of the base tensor",
        "layer": "index of the decoder block",
        "family": "module family, such as q_proj",
        "kind": "state (c_0, of the merged state) or update (c_i)",
        "source": "'state', or the update's name",
        "value": "what the calibrated model multiplies it by; the merged model has 1 for the state, 0 for updates; "
        "NaN where it does not change the matrix",
        "fitted": "whether the calibration chose it; else it is as in the merged model",
        "reason": "why value is undefined, or empty",
    },
    "calibration_curve": {
        "pass": "passes of the fit before this measurement; 0 = the merged model",
        "fitted": "loss on the development probes that are fitted, nats per token, mean over tasks; of a calibration "
        "by entropy the entropy in nats",
        "held_out": "the same on those held out; NaN where none are",
        "kept": "whether the coefficients of this pass were kept",
    },
    "calibration_scores": {
        "model": "calibrated",
        "task": "probe task",
        "split": "dev (the fit saw its probes) or test (it saw none)",
        "metric": _METRIC,
        "value": "mean over examples of the calibrated model",
        "se": "its standard error",
        "merged_value": "mean over examples of the merged model",
        "merged_se": "its standard error",
        "difference": "value − merged_value; em, acc: above zero = better calibrated",
        "difference_se": "its standard error, paired on the same examples; for em and acc at least 1/(n + 2)",
        "n": "examples",
    },
}
LATER: dict[str, tuple[str, ...]] = {
    "leave_one_out": ("leave_one_out",),
    "attribution": ("attribution", "interpolation"),
    "plans": ("plans",),
    "forecast": (),
    "calibration": ("calibration", "calibration_curve", "calibration_scores"),
}
"""Folders that later work on the scores of a run writes, and which of the tables here they hold."""
_ELSEWHERE = {name: f"{folder}/tables/{name}.parquet" for folder, names in LATER.items() for name in names}


def columns(table: str) -> dict[str, str]:
    """The columns of a table in order, each with its meaning; those of signals from their declarations.

    Raises :class:`KeyError` for an unknown table.
    """
    if table not in _COLUMNS:
        raise KeyError(f"no table {table!r}; there are {', '.join(_COLUMNS)}")
    own, signals = _COLUMNS[table], computed()
    if table == "matrices":
        before = list(own).index("mode") + 1
        meanings = {signal.column: signal.documentation for signal in signals}
        return dict([*list(own.items())[:before], *meanings.items(), *list(own.items())[before:]])
    if table == "steps":
        averaged = [signal for signal in signals if signal.averaged]
        means = {s.column: f"mean over matrices: {s.documentation}" for s in averaged}
        ends = [(s.column, end) for s in averaged if s.extremes for end in ("min", "max")]
        return own | means | {f"{column}_{end}": f"{end} of {column} over matrices" for column, end in ends}
    return own


class Tables(Mapping[str, pd.DataFrame]):
    """The tables by name, read on first use; one that was not written yet is empty.

    ``landed``: tables that a run will only write when all of their parts are there have the rows of those that are.
    """

    def __init__(self, store: RunStore, *, landed: bool = False) -> None:
        self._store, self._wants_landed = store, landed
        self._loaded: dict[str, pd.DataFrame] = {}

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name in self._loaded:
            return self._loaded[name]
        frame = self._read(name)
        if frame is None:  # not kept: another command may write it while this run is open
            return pd.DataFrame({column: pd.Series(dtype="object") for column in columns(name)})
        self._loaded[name] = frame
        return frame

    def __iter__(self) -> Iterator[str]:
        return iter(_COLUMNS)

    def __len__(self) -> int:
        return len(_COLUMNS)

    def _read(self, name: str) -> pd.DataFrame | None:
        """None for a table that is not there."""
        documented = list(columns(name))
        file = self._store.path / _ELSEWHERE.get(name, f"tables/{name}.parquet")
        frame = read_table(file) if file.is_file() else self._landed.get(name)
        if frame is None:
            return None
        if name == "matrices":
            seconds = {self._store.keys[index].name: value for index, value in self._store.seconds().items()}
            frame["seconds"] = frame["matrix"].map(seconds).astype("float64")
        if name == "updates":
            strengths = {entry.name: entry.strength for entry in self._store.file.updates}
            frame["strength"] = frame["update"].map(strengths).astype("float64")
        return frame.reindex(columns=documented)

    @cached_property
    def _landed(self) -> dict[str, pd.DataFrame]:
        """Tables of the matrices and models that are done, as far as they are not written."""
        store, found = self._store, {}
        if not self._wants_landed or store.status() == "complete":
            return {}
        if not (store.path / "tables" / "matrices.parquet").is_file():
            found = gathered(store, sorted(store.finished()))
        if not (store.path / "tables" / "scores.parquet").is_file():
            scores = gathered_scores(store, checkpoints(store))
            found |= {name: pd.DataFrame(rows) for name, rows in scores.items()}
        return found


def read_table(file: Path) -> pd.DataFrame:
    """A stored table. Raises :class:`InputError` for a file that is none."""
    try:
        frame: pd.DataFrame = pq.read_table(file).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file} is not a readable table: {str(error).splitlines()[0]}") from None
    return frame


@dataclass(frozen=True)
class Run:
    """One run: ``store`` on disk, ``tables`` by name, ``updates`` in order of arrival; ``landed``: of its tables."""

    store: RunStore
    landed: bool = False

    @property
    def path(self) -> Path:
        return self.store.path

    @property
    def updates(self) -> list[str]:
        return self.store.updates

    @property
    def steps(self) -> int:
        return self.store.steps

    @property
    def status(self) -> str:
        return self.store.status()

    @cached_property
    def tables(self) -> Tables:
        return Tables(self.store, landed=self.landed)

    def examples(self, step: int, split: str, metric: str) -> dict[str, np.ndarray]:
        """Values of every example (n,) by task, for the state of ``step`` (0 is the base).

        ``metric``: as in the table ``scores``, or ``accuracy`` for each task's own. Tasks without it are left out;
        empty for a step that was not scored and for a run of an earlier version, which stored means alone.
        """
        values = {}
        for task in read_examples(self.store, step):
            name = own_metric(task.metrics, metric)
            if task.split == split and name:
                values[task.name] = task.metrics[name].numpy()
        return values


def open_run(path: str | Path, *, landed: bool = False) -> Run:
    """``landed``: as of :class:`Tables`. Raises :class:`InputError` for a folder that is not a run or has another
    schema."""
    return Run(RunStore.open(Path(path)), landed)
