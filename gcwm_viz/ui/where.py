"""Parts of the page Where: which matrices changed the loss of which task, and whether conflict is in the same place."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
import streamlit as st
import torch

from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.roles import by_arrival, role
from gcwm_viz.attribution.spatial import forgetting_pairs, rank_correlation, spatial_correlations, spatial_summary
from gcwm_viz.errors import InputError
from gcwm_viz.figures import (
    attribution_map,
    attribution_multiples,
    harm_gain,
    interpolation,
    spatial_correlation,
    theme,
)
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import layer_grid
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.attribution import attribution_job, is_complete, obstacle
from gcwm_viz.probes.metrics import METRICS, UNITS, offered, rows_of_metric
from gcwm_viz.runs.tables import Run
from gcwm_viz.signals.catalogue import SIGNALS, on_page
from gcwm_viz.signals.signal import Signal
from gcwm_viz.statistics.means import mean_error
from gcwm_viz.ui import charts, job_card, undo
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.roots import run_root, within

TOGETHER = "earlier tasks together"
_NORMS = ("increment_norm", "update_norm")
"""How much each matrix changes: what any signal of a place must beat."""


@dataclass(frozen=True)
class Looked:
    """What the page looks at: ``rows`` of the table attribution of one path and split, and the tasks chosen in it.
    ``beside``: the signal to compare with."""

    view: View
    ends: Ends
    split: str
    rows: pd.DataFrame
    tasks: tuple[str, ...] = ()
    label: str = ""
    beside: Signal | None = None

    @cached_property
    def roles(self) -> dict[str, str]:
        order = self.view.run.updates
        return {task: role(task, self.ends.step, order, self.ends.start) for task in self.rows["task"].unique()}

    def of_role(self, name: str) -> list[str]:
        return [task for task in by_arrival(list(self.roles), self.view.run.updates) if self.roles[task] == name]

    @property
    def chosen(self) -> pd.DataFrame:
        """Rows of the chosen tasks."""
        return self.rows[self.rows["task"].isin(self.tasks)]


def control(view: View) -> None:
    """Start or watch the job that splits the losses, or say why there is none."""
    root, spec = run_root(), attribution_job(view.run.path)
    job = jobs.look(root, spec.name)
    if job.status == "running":
        job_card.watch(root, spec)
        return
    job_card.show_ending(spec, job)
    table, reason = view.run.tables["attribution"], _obstacle(view)
    if len(table) and (reason or (is_complete(view.run.store, table) and not spec.ending(job))):
        return
    if reason:
        st.text(f"Not possible: {reason}")
        return
    begun = "" if len(table) else "Nobody has asked yet where this run's losses changed. "
    st.markdown(
        f"{begun}This splits the change of every task's loss, at every step, over the matrices: forward and backward "
        "through the probes of the development split at some points between the two states. The README says how long "
        "the lab and SmolLM2 take. It can be cancelled."
    )
    job_card.start_button(root, spec, "Go on" if len(table) else "Split the losses")


def _obstacle(view: View) -> str:
    """Why no loss of this run can be split, or an empty text."""
    try:
        if view.run.store.file.probes.where is not None:
            within(view.run.store.file.probes.path)  # a run folder from elsewhere may name any path
    except InputError as error:
        return str(error)
    return obstacle(view.run.store)


def choose(view: View) -> Looked | None:
    """Path, split and tasks from controls; None where nothing on the chosen step was split yet."""
    table = view.run.tables["attribution"]
    paths = {
        "this step": Ends(view.step - 1, view.step),
        "base → here": Ends(0, view.step),
        "base → last": Ends(0, view.run.steps),
    }
    have = set(zip(table["start"], table["step"], strict=True))
    offered_paths = {name: ends for name, ends in paths.items() if (ends.start, ends.step) in have}
    names = {ends: name for name, ends in reversed(offered_paths.items())}  # of equal ones the first name
    if not names:
        return None
    left, right, last = st.columns([5, 3, 3], vertical_alignment="bottom")
    bar = left.container(horizontal=True)
    listed = [name for name in offered_paths if names[offered_paths[name]] == name]
    name = bar.segmented_control("Path", listed, default=listed[0], required=True, key=f"where-path-{len(listed)}")
    ends = offered_paths[name]
    rows = table[(table["start"] == ends.start) & (table["step"] == ends.step)]
    splits = [split for split in ("dev", "test") if (rows["split"] == split).any()]
    split = splits[0]
    if len(splits) > 1:
        split = bar.segmented_control("Split", splits, default=split, required=True, key="where-split")
    looked = Looked(view, ends, split, rows[rows["split"] == split])
    earlier = looked.of_role("earlier")
    options = [*([TOGETHER] if len(earlier) > 1 else []), *by_arrival(list(looked.roles), view.run.updates)]
    changes = looked.rows.drop_duplicates("task").set_index("task")["change"]
    default = str(changes[earlier].idxmax()) if earlier else (looked.of_role("arrived") or options)[0]
    errors = loss_errors(view.run, ends, split)
    words = {
        task: f"{task[:24]} ({num(float(changes[task]), signed=True)} {margin(errors.get(task, math.nan))})"
        for task in changes.index
    }
    task = right.selectbox(
        "Task (change of its loss, nats, 95 %)", options, index=options.index(default),
        format_func=lambda option: words.get(option, option), key=f"where-task-{view.run.path.name}-{ends}-{split}",
    )  # fmt: skip
    tasks = tuple(earlier) if task == TOGETHER else (task,)
    with last:
        beside = _signal(view, ends)
    return replace(looked, tasks=tasks, label=task, beside=beside)


def _signal(view: View, ends: Ends) -> Signal:
    """The signal to compare with, at first the conflict of the arriving update with the state, where it is defined."""
    signals = {signal.title: signal for signal in on_page("Conflict")}
    cells = _cells(view, ends)
    filled = [title for title, signal in signals.items() if cells[signal.column].notna().any()]
    first = SIGNALS["incoming_conflict"].title
    index = list(signals).index(first if first in filled else (filled or list(signals))[0])
    return signals[st.selectbox("Compare with", list(signals), index=index, key=f"where-signal-{index}")]


def _cells(view: View, ends: Ends) -> pd.DataFrame:
    cells = view.run.tables["matrices"]
    return cells[cells["step"] == ends.step]


def loss_errors(run: Run, ends: Ends, split: str) -> dict[str, float]:
    """Standard error of every task's change of loss, paired over its examples; none for a run without examples."""
    before, after = (run.examples(state, split, "nll") for state in (ends.start, ends.step))
    pairs = {task: (before[task], values) for task, values in after.items() if task in before}
    return {
        task: mean_error(torch.from_numpy(after_n - before_n))
        for task, (before_n, after_n) in pairs.items()
        if before_n.shape == after_n.shape
    }


def maps(looked: Looked, select: Callable[[str, int], None]) -> None:
    """The attribution of the chosen tasks, beside a signal of the same cells. ``select``: called with a chart's key and
    the trace of its cells when the reader selects some."""
    view = looked.view
    left, right = st.columns(2, gap="medium")
    with left:
        figure = attribution_map.attribution_map(
            looked.chosen, label=looked.label, axes=view.axes, outlined=undo.selected()
        )
        charts.show(
            figure, attribution_map.ATTRIBUTION, looked.chosen, key="attribution", box=True,
            on_select=lambda: select("attribution", len(figure.data) - 1),
            note=f"{_probes(looked)} Click cells to choose what to undo; the dotted square above the map draws a box.",
        )  # fmt: skip
    with right:
        cells, signal = _cells(view, looked.ends), looked.beside
        assert signal is not None
        limits = bounds(cells[signal.column], diverging=signal.diverging, fit=True)
        figure = layer_grid(cells, signal, axes=view.axes, limits=limits, outlined=undo.selected())
        # As tall as the map beside it, which has a subtitle.
        subtitle = {"text": f"step {looked.ends.step}", "font": {"size": 12}}
        figure.update_layout(title_subtitle=subtitle, height=figure.layout.height + 22, margin_t=70)
        charts.show(
            figure,
            signal,
            cells[["step", "matrix", signal.column, "reason"]],
            key="where-beside",
            note=_agreement(looked, signal),
        )


def _agreement(looked: Looked, signal: Signal) -> str:
    """How the two maps agree, in words."""
    if looked.ends.start != looked.ends.step - 1:
        return "The signal is that of the last step of this path, so the two maps are not correlated."
    totals = attribution_map.cell_values(looked.chosen)
    cells = _cells(looked.view, looked.ends).merge(totals[["layer", "family", "value"]], on=["layer", "family"])
    signal_n, value_n = (cells[column].to_numpy(dtype=float) for column in (signal.column, "value"))
    found = rank_correlation(signal_n, value_n, signal.title)
    if found["reason"]:
        return f"These two maps cannot be compared: {found['reason']}."
    return (
        f"Rank correlation of the two maps over {found['cells']} matrices: ρ = {num(found['rho'], signed=True)}; "
        "positive = the harm is where this is high. One map says little: the strip below has all steps and tasks."
    )


def harm_against_gain(looked: Looked, select: Callable[[str, int], None]) -> None:
    """Harm to earlier tasks against the gain of the one that arrived; nothing where there is no such pair."""
    earlier, arrived = looked.of_role("earlier"), looked.of_role("arrived")
    if not earlier or len(arrived) != 1:
        why = "This takes one task that arrives on the path, and at least one that arrived before it."
        charts.show(theme.nothing(harm_gain.ABOUT.title, why), harm_gain.ABOUT, looked.rows.iloc[:0], key="harm")
        return
    cells = harm_gain.harm_and_gain(looked.rows, arrived=arrived[0], earlier=earlier)
    figure = harm_gain.harm_gain(cells, arrived=arrived[0], axes=looked.view.axes, selected=undo.selected())
    charts.show(
        figure, harm_gain.ABOUT, cells, key="harm", box=True, on_select=lambda: select("harm", len(figure.data) - 1)
    )


def over_time(looked: Looked) -> None:
    """Every task and path of the split on one scale."""
    table = looked.view.run.tables["attribution"]
    rows = table[table["split"] == looked.split]
    figure = attribution_multiples.attribution_multiples(rows, order=looked.view.run.updates, axes=looked.view.axes)
    charts.show(figure, attribution_multiples.ABOUT, rows, key="attribution-all")


def same_place(looked: Looked) -> None:
    """Whether any signal is high where earlier tasks got worse, over all steps and tasks of the run."""
    run = looked.view.run
    rows = run.tables["attribution"]
    columns = list(dict.fromkeys([*(signal.column for signal in on_page("Conflict")), *_NORMS]))
    correlations = spatial_correlations(
        rows[rows["split"] == looked.split], run.tables["matrices"], columns, order=run.updates
    )
    worse = forgetting_pairs(correlations, rows)
    summary = spatial_summary(worse, cluster=["step"])
    names = {column: SIGNALS[column].title for column in columns}
    st.markdown(_answer(summary, looked.beside))
    figure = spatial_correlation.spatial_correlation(worse, summary, names)
    charts.show(figure, spatial_correlation.ABOUT, correlations, key="space")


def _answer(summary: pd.DataFrame, signal: Signal | None) -> str:
    """Whether the compared signal is where the harm is, in one sentence."""
    own = summary[summary["signal"] == (signal.column if signal else "")]
    if own.empty or math.isnan(own["rho"].iloc[0]):
        return "No earlier task's loss rose at a step where this signal is defined, so there is nothing to compare."
    row = own.iloc[0]
    interval, where = "", "where it is " + ("high" if row["rho"] > 0 else "low")
    if not math.isnan(row["low"]):
        interval = f", 95 % {num(row['low'], signed=True)} to {num(row['high'], signed=True)}"
        where = where if row["low"] * row["high"] > 0 else "neither where it is high nor where it is low"
    assert signal is not None
    return (
        f"{signal.title}: over {row['pairs']} tasks and steps that forgot, the mean rank correlation with the harm is "
        f"{num(row['rho'], signed=True)}{interval}: in this run the harm is {where}."
    )


def _probes(looked: Looked) -> str:
    """Which examples the losses are of."""
    counts = {
        task: len(values) for task, values in looked.view.run.examples(looked.ends.step, looked.split, "nll").items()
    }
    listed = sorted({counts[task] for task in looked.tasks if task in counts})
    if not listed:
        return f"Losses of the {looked.split} split."
    many = f"{listed[0]}" if len(listed) == 1 else f"{listed[0]} to {listed[-1]}"
    return f"Losses of the {looked.split} split, {many} examples a task; their error is the ± of the choice above."


def on_the_way(looked: Looked) -> None:
    """Scores along the step and from the base to it, where the run has them."""
    table, ends = looked.view.run.tables["interpolation"], looked.ends
    rows = table[(table["split"] == looked.split) & (table["step"] == ends.step)]
    rows = rows[rows["start"].isin([ends.start, 0, ends.step - 1])]
    if rows.empty:
        return
    metrics = offered(rows)
    metric = st.segmented_control(
        "Metric", metrics, default=metrics[0], required=True, format_func=UNITS.__getitem__, key="where-metric"
    )
    shown = rows_of_metric(rows, metric)
    figure = interpolation.interpolation(
        shown, order=looked.view.run.updates, unit=UNITS[metric], loss=not METRICS[metric]
    )
    charts.show(figure, interpolation.ABOUT, shown, key="way")
