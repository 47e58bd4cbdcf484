"""What the page Try shows of scores, beside the run, its base and its experts, and what was tried."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from gcwm_viz.decide.variant import parse
from gcwm_viz.figures import task_scores
from gcwm_viz.figures.about import About
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.probes.metrics import METRICS, UNITS, own_metric
from gcwm_viz.probes.stored import read_examples, read_expert_examples
from gcwm_viz.probes.values import TaskValues, difference_error
from gcwm_viz.runs.tables import Run
from gcwm_viz.statistics.means import Z95, error_over_tasks, mean_error
from gcwm_viz.ui import charts, row_choice
from gcwm_viz.ui.variant_trail import Trail, trail_of

ABOUT = About(
    title="Scores by task",
    line="The same examples answered by the model that you chose, the run as it stands, the base, and each task's own "
    "expert, with 95 % intervals over the examples.",
)
CHOSEN, RUN, BASE, EXPERT = MODELS = ("your choice", "run as it stands", "base", "own expert")
_HISTORY = "try-history"


def show(table: pd.DataFrame, metric: str, *, same: bool) -> None:
    """The means, their difference, and the figure; ``table``: of :func:`compare`. same: the run itself was chosen."""
    better = "higher is better" if METRICS[metric] else "lower is better"
    boxes = st.columns(3)
    for box, label in zip(boxes, (CHOSEN, RUN), strict=False):
        box.metric(
            label.capitalize(), num(table[label].mean(skipna=False)), help=f"Mean {UNITS[metric]} over tasks; {better}"
        )
    change, error = table["difference"].mean(skipna=False), error_over_tasks(table["difference se"])
    spread = "the same model" if same else None if math.isnan(change) else margin(error)
    boxes[2].metric(
        "Change", num(change, signed=True), spread, delta_color="off", delta_arrow="off",
        help="Mean paired difference over tasks, with a 95 % interval over their examples",
    )  # fmt: skip
    if 0 < abs(change) <= Z95 * error:
        st.caption("The 95 % interval of the change covers zero: these probes do not tell your choice from the run.")
    charts.show(figure(table, metric), ABOUT, table.reset_index(), key="try-scores")


def figure(table: pd.DataFrame, metric: str) -> go.Figure:
    models = {label: (table[label], table[f"{label} se"]) for label in MODELS if table[label].notna().any()}
    return task_scores.task_scores(models, unit=UNITS[metric], title=ABOUT.title)


def compare(run: Run, split: str, metric: str, chosen: Sequence[TaskValues]) -> pd.DataFrame:
    """By task in the order of arrival: score and standard error of every model, and the mean paired difference of
    ``chosen`` from the run with its error; NaN where it was not measured."""
    models = {CHOSEN: chosen, **_stored(run)}
    by_model = {label: {task.name: task for task in own if task.split == split} for label, own in models.items()}
    names = dict.fromkeys(name for own in by_model.values() for name in own)
    rows: dict[str, dict[str, float]] = {}
    for name in [*(own for own in run.updates if own in names), *(own for own in names if own not in run.updates)]:
        tasks = {label: own[name].metrics for label, own in by_model.items() if name in own}
        column = next((own for metrics in tasks.values() if (own := own_metric(metrics, metric))), None)
        if column is None:
            continue
        values = {label: metrics[column] for label, metrics in tasks.items()}
        rows[name] = {label: float(own.mean()) for label, own in values.items()}
        rows[name] |= {f"{label} se": mean_error(own) for label, own in values.items()}
        if CHOSEN in values and RUN in values:
            change = values[CHOSEN] - values[RUN]
            rows[name] |= {"difference": float(change.mean()), "difference se": difference_error(column, change)}
    columns = [*(part for label in MODELS for part in (label, f"{label} se")), "difference", "difference se"]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns).rename_axis("task").astype(float)


@lru_cache(maxsize=4)
def _stored(run: Run) -> dict[str, list[TaskValues]]:
    """Values of every example of the run's own models. The same run is the same object until its files change."""
    store = run.store
    own = [task for name in run.updates for task in read_expert_examples(store, name) if task.name == name]
    return {RUN: read_examples(store, run.steps), BASE: read_examples(store, 0), EXPERT: own}


def history(run: Run, metric: str, split: str) -> None:
    """What was tried in this session; a click shows it again."""
    trail = trail_of(run)
    texts = list(dict.fromkeys(text for text, _ in trail.scored))
    if len(texts) < 2:
        st.caption("What you try is listed here; a click goes back to it.")
        return
    rows = []
    for text in texts:
        row: dict[str, Any] = {"What": parse(text, run.store).words(run.store)}
        for each, label in (("dev", "Development"), ("test", "Test")):
            scored = trail.scored.get((text, each))
            table = compare(run, each, metric, scored[0] if scored else [])
            row[label] = table[CHOSEN].mean(skipna=False)
            if each == split:
                tasks = table[CHOSEN].to_dict()
        row |= {f"task {name}": value for name, value in tasks.items()}
        rows.append(row | {"Seconds": sum(trail.scored[at][1] for at in trail.scored if at[0] == text)})
    _draw(pd.DataFrame(rows), texts, trail)


def _draw(rows: pd.DataFrame, texts: Sequence[str], trail: Trail) -> None:
    row_choice.tick(_HISTORY, texts.index(trail.text) if trail.text in texts else None)
    column = st.column_config
    names = [str(name) for name in rows]
    numbers: dict[str, Any] = {n: column.NumberColumn(n.removeprefix("task "), format="%.3f") for n in names}
    st.dataframe(
        rows,
        key=_HISTORY,
        on_select=partial(_pick, texts, trail.go),
        selection_mode=["single-row", "single-cell"],  # a click anywhere in a row chooses it
        hide_index=True,
        alt="What was tried in this session: mean scores by split, scores by task, seconds",
        column_config=numbers | {
            "What": column.TextColumn("What", width="large"),
            "Seconds": column.NumberColumn("Seconds", format="%.1f", help="To merge and score; 0: stored by the run"),
        },
    )  # fmt: skip


def _pick(texts: Sequence[str], go: Callable[[str], None]) -> None:
    row = row_choice.clicked(_HISTORY)
    if row is not None and row < len(texts):
        go(texts[row])
