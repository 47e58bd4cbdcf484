"""A run whose figures are its methods, as a notebook shows them: the same figures that the pages draw."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd
import plotly.graph_objects as go

from gcwm_viz.attribution.worst import split_of, worst_step
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.plans import outlook_if_any
from gcwm_viz.errors import InputError
from gcwm_viz.figures import attribution_map, gate_curve, retention, score_heatmap, solver_path, spectrum, step_trend
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import grid_axes, layer_grid
from gcwm_viz.probes.metrics import offered
from gcwm_viz.report.markup import text
from gcwm_viz.report.story import story
from gcwm_viz.runs import tables
from gcwm_viz.runs.highlights import Scored, scored
from gcwm_viz.signals.catalogue import ACTIVE, computed

Value = TypeVar("Value", int, str)


@dataclass(frozen=True)
class Run(tables.Run):
    """A run with its figures. ``tables`` has the numbers; ``tables["matrices"]`` and the others are DataFrames.

    Every method returns a plotly figure. ``step``: by default the last that is there, where another meaning is not
    stated. Raises ``InputError`` for a step, layer, family, signal or task that the run does not have, naming
    those that it has, and for a figure of something that was not computed, naming the command that computes it.
    """

    def overview(self) -> go.Figure:
        """Scores and mean conflict over the steps."""
        scores, steps = scored(self), self.tables["steps"]
        if scores is None:
            return step_trend.step_trend(steps, unit="score")
        return step_trend.step_trend(steps, scores.downstream, unit=scores.unit)

    def conflict(self, signal: str = ACTIVE.column, step: int | None = None) -> go.Figure:
        """Map of a signal over layers (rows) and module families (columns); colours comparable between steps.

        signal: a column of ``tables["matrices"]`` that is declared as one, by default the active conflict, in [0, 1],
        higher = more conflict.
        """
        signals = {each.column: each for each in computed()}
        chosen, matrices = signals[_one_of("signal", signal, signals)], self.tables["matrices"]
        limits = bounds(matrices[chosen.column], diverging=chosen.diverging, fit=True)
        return layer_grid(self._cells(step), chosen, axes=grid_axes(matrices), limits=limits)

    def gate(self, step: int | None = None) -> go.Figure:
        """α in [0, 1] of every matrix over its conflict, on the run's gate; higher = more of the geometry branch."""
        config = self.store.settings.gcwm
        return gate_curve.gate_curve(self._cells(step), config, before=config)

    def spectra(self, layer: int, family: str, step: int | None = None) -> go.Figure:
        """Projected eigenvalues of every update, their mean, the barycenter and the state, of one matrix."""
        cells = self._cells(step)
        rows = self._of_matrix("spectra", layer, family, step)
        share = cells[(cells["layer"] == layer) & (cells["family"] == family)]["lambda_share"]
        return spectrum.spectrum(rows, float(share.iloc[0]))

    def solver(self, layer: int, family: str, step: int | None = None) -> go.Figure:
        """How far each branch of one matrix moved from the plain sum of updates, over the solver's iterations."""
        return solver_path.shift_path(self._of_matrix("solver", layer, family, step))

    def scores(self, split: str = "test", metric: str | None = None) -> go.Figure:
        """Score of every task after every step, with the base and each task's own expert.

        metric: by default the run's headline metric.
        """
        found = self._scored(split, metric)
        return score_heatmap.score_heatmap(
            found.R, found.errors, found.own, order=self.updates, higher_is_better=found.higher_is_better
        )

    def retention(self, split: str = "test", metric: str | None = None) -> go.Figure:
        """Score of every task over the steps, with 95 % intervals."""
        found = self._scored(split, metric)
        return retention.retention(found.R, found.errors, found.own, order=self.updates, unit=found.unit)

    def where(
        self, task: str | None = None, step: int | None = None, *, start: int | None = None, split: str | None = None
    ) -> go.Figure:
        """Attribution of the change of a task's loss to matrices, nats per token; positive = it made the task worse.

        By default the step and the earlier task whose loss rose most. start: state where the path begins, by default
        the one before ``step``; 0 is the base.
        """
        table = self.tables["attribution"]
        if table.empty:
            raise InputError(f"run {self.path}: nothing is attributed yet, expected `gcwm-viz attribute {self.path}`")
        worst = worst_step(table, self.updates)
        split = _one_of("split", split or split_of(table), table["split"].unique())
        if step is None:
            step = worst.step if worst and task in (None, worst.task) else int(table["step"].max())
        start = step - 1 if start is None else start
        path = table[(table["split"] == split) & (table["start"] == start) & (table["step"] == step)]
        if path.empty:
            ends = sorted(set(zip(table["start"].astype(int), table["step"].astype(int), strict=True)))
            have = ", ".join(f"{first} → {last}" for first, last in ends)
            raise InputError(f"run {self.path}: the path {start} → {step} is not attributed; there are {have}")
        rises = path.drop_duplicates("task").set_index("task")["change"]
        task = _one_of("task", task or (worst.task if worst and worst.task in rises else rises.idxmax()), rises.index)
        axes = grid_axes(self.tables["matrices"])
        return attribution_map.attribution_map(path[path["task"] == task], label=task, axes=axes)

    def story(self) -> list[str]:
        """The run in five sentences, with what is uncertain and what is not computed yet."""
        return [sentence.text for sentence in story(self, outlook_if_any(self))]

    def _repr_html_(self) -> str:
        """The story under the name, method and state of the run; everything that comes from files is escaped."""
        file = self.store.file
        method = "states of a training" if file.states else self.store.settings.method
        head = f"<b>{text(file.name or self.path.name, 80)}</b> · {text(method)} · {self.status}"
        updates = ", ".join(text(name, 40) for name in self.updates)
        if self.tables["matrices"].empty:
            return f"<div>{head}<br>{updates}<br>No step is finished yet.</div>"
        told = "".join(f"<li>{text(sentence)}</li>" for sentence in self.story())
        return f"<div>{head}<br>{updates}<ol>{told}</ol></div>"

    def _cells(self, step: int | None) -> pd.DataFrame:
        """Rows of ``matrices`` of one step."""
        matrices = self.tables["matrices"]
        if matrices.empty:
            raise InputError(f"run {self.path}: no step is finished; resume it with `gcwm-viz resume {self.path}`")
        steps = [int(number) for number in sorted(matrices["step"].unique())]
        cells: pd.DataFrame = matrices[matrices["step"] == _one_of("step", steps[-1] if step is None else step, steps)]
        return cells

    def _of_matrix(self, table: str, layer: int, family: str, step: int | None) -> pd.DataFrame:
        """Rows of one table of one matrix."""
        cells = self._cells(step)
        own = cells[cells["layer"] == _one_of("layer", layer, cells["layer"].unique())]
        _one_of("family", family, own["family"].unique())
        rows = self.tables[table]
        at = (rows["step"] == cells["step"].iloc[0]) & (rows["layer"] == layer) & (rows["family"] == family)
        found: pd.DataFrame = rows[at]
        return found

    def _scored(self, split: str, metric: str | None) -> Scored:
        table = self.tables["scores"]
        if table.empty:
            raise InputError(f"run {self.path}: it was not scored, expected `gcwm-viz score {self.path} --probes DIR`")
        rows = table[table["split"] == _one_of("split", split, table["split"].unique())]
        if metric is not None:
            _one_of("metric", metric, offered(rows))
        found = scored(self, split, metric)
        if found is None:
            raise InputError(f"run {self.path}: no model after a step is scored on the {split} split yet")
        return found


def _one_of(name: str, value: Value, known: Collection[Value]) -> Value:
    if value not in list(known):
        raise InputError(f"no {name} {value!r}; there are {', '.join(map(str, known))}")
    return value


def open_run(path: str | Path, *, landed: bool = False) -> Run:
    """A run folder for a notebook or a script.

    landed: of a run that is still computing, what has landed so far. Raises ``InputError`` for a folder that is
    not a run or has another schema.
    """
    return Run(RunStore.open(Path(path)), landed)
