"""Parts of the page Examples: which examples a step lost, learned or regained, and one of them in full.

Task, split, statuses, search and the chosen example stand in the address, so that a page in any state is a link.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import pandas as pd
import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.figures.theme import num
from gcwm_viz.probes.metrics import is_share
from gcwm_viz.probes.tasks import Task
from gcwm_viz.runs.examples import (
    COUNTED,
    FORGOTTEN,
    MEANINGS,
    Status,
    changes,
    columns,
    example_table,
    flips,
)
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import row_choice, selection
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.probe_files import scored_tasks
from gcwm_viz.ui.text import as_csv, as_markdown

EVERY = "All tasks"
MOST_ROWS, MOST_CHARACTERS = 1000, 300
_ROWS = "example-rows"
_SEARCH = "Part of a prompt or an answer"


@dataclass(frozen=True)
class Examples:
    """Examples of one split of a run. table: of :func:`gcwm_viz.runs.examples.example_table`; losses: the same in nats;
    tasks: what was asked, by name; task: the chosen one, or :data:`EVERY`; search: part of a prompt or an answer."""

    run: Run
    split: str
    table: pd.DataFrame
    losses: pd.DataFrame
    tasks: dict[str, Task]
    task: str = EVERY
    search: str = ""

    @property
    def of_task(self) -> pd.DataFrame:
        """Rows of the chosen task."""
        return self.table if self.task == EVERY else self.table[self.table["task"] == self.task]


def choose(run: Run) -> Examples:
    """The examples that the controls of split, task and search choose; ends the page where the run has none."""
    selection.prefer_address("split", "task", "search", "status")
    splits = [split for split in ("test", "dev") if split in set(run.tables["scores"]["split"])]
    left, middle, right = st.columns([1, 2, 2], vertical_alignment="bottom")
    split = splits[0] if splits else "test"
    if len(splits) > 1:
        split = left.segmented_control("Split", splits, default=split, required=True, key="split", bind="query-params")
    unread = ""
    try:
        scored_tasks(run)
    except (InputError, OSError) as error:
        unread = str(error)
    try:
        found = _load(run, split, unread)
    except InputError as error:
        st.info("This run has no examples to show.")
        st.text(str(error))
        st.stop()
    names = list(found.table["task"].unique())
    task = middle.selectbox("Task", [EVERY, *names], key="task", bind="query-params")
    search = right.text_input("Search", key="search", bind="query-params", type="search", placeholder=_SEARCH)
    for reason in dict.fromkeys(found.table["reason"]):
        if reason:
            which = found.table.loc[found.table["reason"] == reason, "task"].unique()
            some = "" if len(which) == len(names) else f" of {', '.join(which)}"
            st.text(f"No prompts and answers{some}: {reason}")
    return replace(found, task=task or EVERY, search=search or "")


@lru_cache(maxsize=4)
def _load(run: Run, split: str, unread: str) -> Examples:
    """``unread``: why the probe files are not read. The same run is the same object until its files change: see
    ``loading``."""
    tasks = {} if unread else {name: task for (own, name), task in scored_tasks(run).items() if own == split}
    table = example_table(run, split, unread=unread)
    try:
        losses = example_table(run, split, "nll", unread=unread)
    except InputError:  # tasks of the harness have no loss
        losses = table.iloc[:0]
    return Examples(run, split, table, losses, tasks)


def choose_example(view: View, examples: Examples) -> pd.Series | None:
    """Filters and the table of examples; the row of the one in the address, which a click on the table changes."""
    rows, step = examples.of_task, view.step
    status = f"status_{step}"
    flipped = [name for name in columns(view.run.steps) if name.startswith("status_")]
    occurring = {value for name in flipped for value in examples.table[name].unique()}
    offered = [each.value for each in Status if each in occurring]
    loss_only = bool(len(rows)) and set(rows[status]) == {Status.LOSS.value}
    wanted = st.pills(
        f"At step {step}",
        offered,
        selection_mode="multi",
        default=[each for each in FORGOTTEN if each in offered],
        key="status",
        bind="query-params",
        help="\n".join(f"- {each}: {MEANINGS[Status(each)]}" for each in offered),
        disabled=loss_only,
    )
    found = rows[_contains(rows, examples.search)]
    shown = found[found[status].isin(wanted)] if wanted and not loss_only else found
    if loss_only:
        shown = shown.loc[changes(shown, step).sort_values(ascending=False, kind="stable").index]
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.caption(_counts(view, rows, len(shown), len(found)))
    right.download_button(
        "Download CSV", partial(as_csv, shown), f"examples-{examples.split}.csv", "text/csv", on_click="ignore"
    )
    chosen = _chosen(examples)
    if len(shown):
        _draw(shown.head(MOST_ROWS), step, examples, chosen)
    return None if chosen is None else examples.table.iloc[chosen]


def counts(examples: Examples) -> pd.DataFrame:
    """What flipped at each step of the chosen task."""
    return flips(examples.of_task)


def _counts(view: View, rows: pd.DataFrame, shown: int, found: int) -> str:
    step = view.step
    status = rows[f"status_{step}"].value_counts()
    if set(status.index) == {Status.UNKNOWN.value}:
        kept = view.run.store.settings.continual.keep
        why = "the run keeps the model of its last step alone" if kept == "last" and step < view.run.steps else ""
        return f"Step {step} was not scored, or its values are undefined{': ' * bool(why)}{why}."
    if set(status.index) == {Status.LOSS.value}:
        said = "This task has a loss alone, and no right or wrong. Largest increase in the step first."
    else:
        parts = [f"{status[each]} {each}" for each in COUNTED if each in status]
        said = f"Step {step}, of {num(len(rows))} examples: {', '.join(parts)}."
    more = f"{num(shown)} shown" if shown <= MOST_ROWS else f"The first {num(MOST_ROWS)} of {num(shown)} shown"
    hidden = f"; {num(found - shown)} more with another status" if found > shown else ""
    return f"{said} {more}{hidden}. Click one to see every model's answer."


def _contains(rows: pd.DataFrame, search: str) -> pd.Series:
    needle = search.strip().casefold()
    return rows["prompt"].map(lambda text: needle in text.casefold()) | rows["expected"].map(
        lambda text: needle in text.casefold()
    )


def _draw(shown: pd.DataFrame, step: int, examples: Examples, chosen: object) -> None:
    """The table; ``chosen``: label of the chosen row."""
    places = list(shown.index)
    row_choice.tick(_ROWS, places.index(chosen) if chosen in places else None)
    ids = [f"{task}:{example}" for task, example in zip(shown["task"], shown["example"], strict=True)]
    steps = examples.run.steps
    cells: dict[str, Any] = {"status": shown[f"status_{step}"], "task": shown["task"], "example": shown["example"]}
    cells |= {name: shown[name].str.slice(0, MOST_CHARACTERS) for name in ("prompt", "expected")}
    marks = ["base", "expert", *(f"step_{each}" for each in range(1, steps + 1))]
    share = shown["metric"].map(is_share)
    cells |= {name: [_mark(value, right) for value, right in zip(shown[name], share, strict=True)] for name in marks}
    if not share.any():
        cells = {"change": changes(shown, step), **cells}
        del cells["status"], cells["expected"]
    if examples.task != EVERY:
        del cells["task"]
    column = st.column_config
    st.dataframe(
        pd.DataFrame(cells),
        key=_ROWS,
        on_select=partial(_pick, ids),
        selection_mode=["single-row", "single-cell"],  # a click anywhere in a row chooses it
        hide_index=True,
        height=min(38 + 35 * len(shown), 283),
        alt="Examples with what the step did to each, and which models answer it",
        column_config={
            "status": column.TextColumn(f"Step {step}", width=75),
            "change": column.NumberColumn("Change", width=75, format="%+.3f", help="Nats per token; positive = worse"),
            "task": column.TextColumn("Task", width=80),
            "example": column.NumberColumn("No.", width=40, help="Place in the probe file, from 1"),
            "prompt": column.TextColumn("Prompt" if share.any() else "Text", width=150),
            "expected": column.TextColumn("Expected", width=90),
            "base": column.TextColumn("base", width=42, help="✓ right, ✕ wrong, – not known; or the loss"),
            "expert": column.TextColumn("expert", width=48, help="The task's own expert"),
            **{f"step_{each}": column.TextColumn(str(each), width=30, help=f"After step {each}: "
               f"{as_markdown(examples.run.updates[each - 1], 40)}") for each in range(1, steps + 1)},
        },
    )  # fmt: skip


def _mark(value: float, share: bool) -> str:
    if value != value:
        return "–"
    if not share:
        return num(value)
    return "✓" if value > 0.5 else "✕"


def _pick(ids: Sequence[str]) -> None:
    """Callback of the table: the clicked row becomes the example of the address; its box is ticked with the next
    drawing. Ticking it off leaves none."""
    row = row_choice.clicked(_ROWS)
    if row is not None and row < len(ids):
        st.query_params["example"] = ids[row]
    else:
        st.query_params.pop("example", None)


def _chosen(examples: Examples) -> int | None:
    """Place of the row that the address names as ``TASK:NUMBER``, or by a number where one task is chosen."""
    task, _, number = st.query_params.get("example", "").rpartition(":")
    table = examples.table
    at = table.index[(table["task"] == (task or examples.task)) & (table["example"].astype(str) == number)]
    return int(at[0]) if len(at) else None
