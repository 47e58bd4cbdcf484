"""Charts of the page Where: which matrices changed the loss of which task, and what they brought."""

from collections.abc import Callable
from functools import lru_cache

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from gcwm_viz.figures import attribution_map, attribution_multiples, harm_gain, interpolation, theme
from gcwm_viz.figures.bounds import bounds
from gcwm_viz.figures.layer_grid import collapsed, layer_grid
from gcwm_viz.probes.metrics import METRICS, UNITS, offered, rows_of_metric
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import charts
from gcwm_viz.ui.frame import axes_of
from gcwm_viz.ui.looked import Looked, cells_of
from gcwm_viz.ui.where_conflict import agreement


def maps(looked: Looked, select: Callable[[str, int], None]) -> None:
    """The attribution of the chosen tasks, beside a signal of the same cells. ``select``: called with a chart's key and
    the trace of its cells when the reader selects some."""
    view = looked.view
    left, right = st.columns(2, gap="medium")
    with left:
        figure = attribution_map.attribution_map(looked.chosen, label=looked.label, axes=view.grid, outlined=view.cells)
        charts.show(
            figure, attribution_map.ATTRIBUTION, looked.chosen, key="attribution", box=True,
            on_select=lambda: select("attribution", len(figure.data) - 1),
            note=f"{_probes(looked)} Click cells to choose what to undo; the dotted square above the map draws a box.",
        )  # fmt: skip
    with right:
        cells, signal = cells_of(view, looked.ends), looked.beside
        assert signal is not None
        limits = bounds(cells[signal.column], diverging=signal.diverging, fit=True)
        figure = layer_grid(cells, signal, axes=view.grid, limits=limits, outlined=view.cells)
        # As tall as the map beside it, which has a subtitle.
        subtitle = {"text": f"step {looked.ends.step}", "font": {"size": 12}}
        figure.update_layout(title_subtitle=subtitle, height=figure.layout.height + 22, margin_t=70)
        charts.show(
            figure,
            signal,
            cells[["step", "matrix", signal.column, "reason"]],
            key="where-beside",
            note=agreement(looked, signal),
        )


def harm_against_gain(looked: Looked, select: Callable[[str, int], None]) -> None:
    """Harm to earlier tasks against the gain of the one that arrived; nothing where there is no such pair."""
    earlier, arrived = looked.of_role("earlier"), looked.of_role("arrived")
    if not earlier or len(arrived) != 1:
        why = "This takes one task that arrives on the path, and at least one that arrived before it."
        charts.show(theme.nothing(harm_gain.ABOUT.title, why), harm_gain.ABOUT, looked.rows.iloc[:0], key="harm")
        return
    cells = harm_gain.harm_and_gain(looked.rows, arrived=arrived[0], earlier=earlier)
    figure = harm_gain.harm_gain(cells, arrived=arrived[0], axes=looked.view.axes, selected=looked.view.cells)
    charts.show(
        figure, harm_gain.ABOUT, cells, key="harm", box=True, on_select=lambda: select("harm", len(figure.data) - 1)
    )


def over_time(looked: Looked) -> None:
    """Every task and path of the split on one scale."""
    rows, figure = _every(looked.view.run, looked.split, looked.view.experts)
    charts.show(figure, attribution_multiples.ABOUT, rows, key="attribution-all")


@lru_cache(maxsize=4)
def _every(run: Run, split: str, experts: str) -> tuple[pd.DataFrame, go.Figure]:
    """Drawn once a run, see ``loading``: with many steps and tasks it takes seconds."""
    table = run.tables["attribution"]
    rows = table[table["split"] == split]
    axes = collapsed(axes_of(run), experts)
    return rows, attribution_multiples.attribution_multiples(rows, order=run.updates, axes=axes)


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
