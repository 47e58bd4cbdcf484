"""What the page Where looks at: a path, a split, tasks, and the signal to compare with."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd
import streamlit as st

from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.roles import by_arrival, role
from gcwm_viz.figures.theme import margin, num
from gcwm_viz.runs.highlights import loss_errors
from gcwm_viz.signals.catalogue import SIGNALS, on_page
from gcwm_viz.signals.signal import Signal
from gcwm_viz.ui.frame import View

TOGETHER = "earlier tasks together"


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
    errors = loss_errors(view.run, ends.start, ends.step, split)
    words = {
        task: f"{task[:24]} ({num(float(changes[task]), signed=True)} {margin(errors.get(task, math.nan))})"
        for task in changes.index
    }
    key = f"where-task-{view.run.path.name}-{ends}-{split}"
    if key not in st.session_state:
        wanted = st.query_params.get("task", default)
        st.session_state[key] = wanted if wanted in options else default
    task = right.selectbox("Task (change of its loss, nats, 95 %)", options, key=key,
                           format_func=lambda option: words.get(option, option))  # fmt: skip
    if st.query_params.get("task", default) != task:
        st.query_params["task"] = task
    tasks = tuple(earlier) if task == TOGETHER else (task,)
    with last:
        beside = _signal(view, ends)
    return replace(looked, tasks=tasks, label=task, beside=beside)


def _signal(view: View, ends: Ends) -> Signal:
    """The signal to compare with, at first the conflict of the arriving update with the state, where it is defined."""
    signals = {signal.title: signal for signal in on_page("Conflict")}
    cells = cells_of(view, ends)
    filled = [title for title, signal in signals.items() if cells[signal.column].notna().any()]
    first = SIGNALS["incoming_conflict"].title
    index = list(signals).index(first if first in filled else (filled or list(signals))[0])
    return signals[st.selectbox("Compare with", list(signals), index=index, key=f"where-signal-{index}")]


def cells_of(view: View, ends: Ends) -> pd.DataFrame:
    """Rows of the table ``matrices`` at the end of a path."""
    cells = view.run.tables["matrices"]
    return cells[cells["step"] == ends.step]
