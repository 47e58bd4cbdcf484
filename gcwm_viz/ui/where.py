"""Parts of the page Where: which matrices changed the loss of which task, and whether conflict is in the same place."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
import streamlit as st

from gcwm_viz.attribution.plan import Way
from gcwm_viz.attribution.roles import by_arrival, role
from gcwm_viz.attribution.spatial import FEWEST_CELLS, spatial_correlations, spatial_summary
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
from gcwm_viz.figures.theme import num
from gcwm_viz.jobs import jobs
from gcwm_viz.jobs.attribution import attribution_job, obstacle
from gcwm_viz.probes.metrics import METRICS, UNITS, offered, rows_of_metric
from gcwm_viz.signals.catalogue import SIGNALS, on_page
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui import charts, job_card, undo
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.roots import run_root
from gcwm_viz.ui.text import as_markdown

TOGETHER = "earlier tasks together"
_NORMS = ("increment_norm", "update_norm")
"""How much each matrix changes: what any signal of a place must beat."""


@dataclass(frozen=True)
class Looked:
    """What the page looks at: ``rows`` of the table attribution of one path and split, and the tasks chosen in it.
    ``beside``: the signal to compare with."""

    view: View
    way: Way
    split: str
    rows: pd.DataFrame
    tasks: tuple[str, ...] = ()
    label: str = ""
    beside: Signal | None = None

    @cached_property
    def roles(self) -> dict[str, str]:
        order = self.view.run.updates
        return {task: role(task, self.way.step, order, self.way.start) for task in self.rows["task"].unique()}

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
    done = set(zip(view.run.tables["attribution"]["start"], view.run.tables["attribution"]["step"], strict=True))
    whole = {(0, view.run.steps)} | ({(t - 1, t) for t in range(1, view.run.steps + 1)} if _every_step(view) else set())
    if whole <= done and not spec.ending(job):
        return
    reason = obstacle(view.run.store)
    if reason:
        st.text(f"Not possible: {reason}")
        return
    st.markdown(
        "Nobody has asked yet where this run's losses changed. This splits the change of every task's loss, at every "
        "step, over the matrices: forward and backward through the probes of the development split at some points "
        "between the two states. The lab takes half a minute, SmolLM2 about an hour on two cores. It can be cancelled."
    )
    job_card.start_button(root, spec, "Go on" if done else "Split the losses")


def _every_step(view: View) -> bool:
    return view.run.store.settings.continual.keep == "all"


def choose(view: View) -> Looked | None:
    """Path, split and tasks from controls; None where nothing on the chosen step was split yet."""
    table = view.run.tables["attribution"]
    ways = {
        "this step": Way(view.step - 1, view.step),
        "base to this step": Way(0, view.step),
        "base to the last step": Way(0, view.run.steps),
    }
    have = set(zip(table["start"], table["step"], strict=True))
    offered_ways = {name: way for name, way in ways.items() if (way.start, way.step) in have}
    names = {way: name for name, way in reversed(offered_ways.items())}  # of equal ones the first name
    if not names:
        return None
    left, middle, right, last = st.columns([3, 2, 3, 3], vertical_alignment="bottom")
    listed = [name for name in offered_ways if names[offered_ways[name]] == name]
    name = left.segmented_control("Path", listed, default=listed[0], required=True, key=f"where-path-{len(listed)}")
    way = offered_ways[name]
    rows = table[(table["start"] == way.start) & (table["step"] == way.step)]
    splits = [split for split in ("dev", "test") if (rows["split"] == split).any()]
    split = splits[0]
    if len(splits) > 1:
        split = middle.segmented_control("Split", splits, default=split, required=True, key="where-split")
    looked = Looked(view, way, split, rows[rows["split"] == split])
    earlier = looked.of_role("earlier")
    options = [*([TOGETHER] if len(earlier) > 1 else []), *by_arrival(list(looked.roles), view.run.updates)]
    changes = looked.rows.drop_duplicates("task").set_index("task")["change"]
    default = str(changes[earlier].idxmax()) if earlier else (looked.of_role("arrived") or options)[0]
    words = {task: f"{as_markdown(task, 24)} ({num(float(changes[task]), signed=True)})" for task in changes.index}
    task = right.selectbox(
        "Task (change of its loss, nats)", options, index=options.index(default),
        format_func=lambda option: words.get(option, option), key=f"where-task-{view.run.path.name}-{way}-{split}",
    )  # fmt: skip
    tasks = tuple(earlier) if task == TOGETHER else (task,)
    with last:
        beside = _signal(view, way)
    return replace(looked, tasks=tasks, label=task, beside=beside)


def _signal(view: View, way: Way) -> Signal:
    """The signal to compare with, at first the conflict of the arriving update with the state, where it is defined."""
    signals = {signal.title: signal for signal in on_page("Conflict")}
    cells = _cells(view, way)
    filled = [title for title, signal in signals.items() if cells[signal.column].notna().any()]
    first = SIGNALS["incoming_conflict"].title
    index = list(signals).index(first if first in filled else (filled or list(signals))[0])
    return signals[st.selectbox("Compare with", list(signals), index=index, key=f"where-signal-{index}")]


def _cells(view: View, way: Way) -> pd.DataFrame:
    cells = view.run.tables["matrices"]
    return cells[cells["step"] == way.step]


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
            note="Click cells, or draw a box, to choose what to undo.",
        )  # fmt: skip
    with right:
        cells, signal = _cells(view, looked.way), looked.beside
        assert signal is not None
        limits = bounds(cells[signal.column], diverging=signal.diverging, fit=True)
        figure = layer_grid(cells, signal, axes=view.axes, limits=limits, outlined=undo.selected())
        charts.show(
            figure,
            signal,
            cells[["step", "matrix", signal.column, "reason"]],
            key="where-beside",
            note=_agreement(looked, signal),
        )


def _agreement(looked: Looked, signal: Signal) -> str:
    """How the two maps agree, in words."""
    totals = attribution_map.cell_values(looked.chosen)
    cells = _cells(looked.view, looked.way).merge(totals[["layer", "family", "value"]], on=["layer", "family"])
    both = cells[[signal.column, "value"]].astype(float).dropna()
    if len(both) < FEWEST_CELLS or both.nunique().min() < 2:
        return "These two maps cannot be compared: too few matrices have both values, or one is the same everywhere."
    rho = float(both[signal.column].corr(both["value"], method="spearman"))
    return (
        f"Rank correlation of the two maps over {len(both)} matrices: ρ = {num(rho, signed=True)}; positive = the harm "
        "is where this is high. One map says little: the strip below has all steps and tasks."
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
    columns = [*(signal.column for signal in on_page("Conflict")), *_NORMS]
    correlations = spatial_correlations(
        rows[rows["split"] == looked.split], run.tables["matrices"], columns, order=run.updates
    )
    earlier = correlations[correlations["role"] == "earlier"]
    summary = spatial_summary(earlier, cluster=["step"])
    names = {column: SIGNALS[column].title for column in columns}
    figure = spatial_correlation.spatial_correlation(earlier, summary, names)
    charts.show(figure, spatial_correlation.ABOUT, correlations, key="space")


def on_the_way(looked: Looked) -> None:
    """Scores along the step and from the base to it, where the run has them."""
    table, way = looked.view.run.tables["interpolation"], looked.way
    rows = table[(table["split"] == looked.split) & (table["step"] == way.step)]
    rows = rows[rows["start"].isin([way.start, 0, way.step - 1])]
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
