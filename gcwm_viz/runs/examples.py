"""Every example of a run's probes: what was asked, its value at each state, and what flipped from state to state.

Where the metric is a share, a value is 1 (right) or 0 (wrong), and a status says what a step did to the example. Texts
have a loss alone, so nothing flips there; :func:`changes` is what a step did to them.

Shape suffixes: n examples, s states (the base and steps 1 … T).
"""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
import pandas as pd

from gcwm_viz.errors import InputError
from gcwm_viz.probes.metrics import is_share, own_metric
from gcwm_viz.probes.stored import read_examples, read_expert_examples
from gcwm_viz.probes.tasks import ChoiceTask, HarnessTask, PromptTask, Task, load_tasks, probes_fingerprint
from gcwm_viz.probes.values import TaskValues
from gcwm_viz.runs.tables import Run

_LOSSES = ("nll", "ppl", "bpb")
"""Metrics of a task without right and wrong, in order of preference."""


class Status(StrEnum):
    """What a step did to one example, against the scored state before it (of the first, the base)."""

    LOST = "lost"
    STILL_LOST = "still lost"
    LEARNED = "learned"
    REGAINED = "regained"
    KEPT = "kept"
    NEVER = "never right"
    UNKNOWN = "unknown"
    LOSS = "loss only"


MEANINGS = {
    Status.LOST: "right before the step, wrong after it",
    Status.STILL_LOST: "right at an earlier state, wrong before the step and after it",
    Status.LEARNED: "wrong at every state before the step, right after it",
    Status.REGAINED: "right at an earlier state, wrong before the step, right after it",
    Status.KEPT: "right before the step and after it",
    Status.NEVER: "wrong at every state up to the step",
    Status.UNKNOWN: "not scored at the step, or a value that decides is undefined",
    Status.LOSS: "the task has a loss alone, and no right or wrong",
}
"""States are those that were scored, the base among them."""
FORGOTTEN = (Status.LOST.value, Status.STILL_LOST.value)
"""Right once, and wrong after the step."""
COUNTED = tuple(status for status in Status if status is not Status.LOSS)


def columns(steps: int) -> dict[str, str]:
    """The columns of :func:`example_table` for a run of ``steps`` steps, each with its meaning."""
    return {
        "task": "probe task",
        "example": "its place in the probe file, from 1",
        "prompt": "prompt, question or text; empty where reason says why",
        "expected": "the right answer or choice; empty for texts",
        "metric": "what the values are, as in the table scores",
        "reason": "why prompt and answer are not known, or empty",
        "base": "value of the base: 1 right, 0 wrong, or a loss; NaN where it is undefined or not scored",
        "expert": "value of the task's own expert; NaN without one",
        **{f"step_{step}": f"value after step {step}" for step in range(1, steps + 1)},
        **{f"status_{step}": f"what step {step} did to the example: see Status" for step in range(1, steps + 1)},
    }


def example_table(run: Run, split: str, metric: str = "accuracy", *, unread: str = "") -> pd.DataFrame:
    """One row an example, tasks in order of arrival and then those without an update; columns: :func:`columns`.

    ``metric``: as in the table ``scores``; tasks without it are left out. ``accuracy`` is each task's own, and the loss
    of a task that has none. The mean of a column over a task is its score. ``unread``: why the probe files are not
    read, where they are not; it is then the reason of every row.

    Raises :class:`InputError` for a run without scores, one whose scores are means alone (an earlier version stored no
    examples), and a split or metric that was not scored.
    """
    by_state = [_own_values(read_examples(run.store, step), split, metric) for step in range(run.steps + 1)]
    tasks = dict.fromkeys(name for values in by_state for name in values)
    if not tasks:
        raise InputError(_nothing(run, split, metric))
    try:
        asked = {} if unread else read_tasks(run, split)
    except InputError as error:
        asked, unread = {}, str(error)
    arrived = [name for name in run.updates if name in tasks]
    frames = []
    for name in [*arrived, *(name for name in tasks if name not in arrived)]:
        own, first_n = next(values[name] for values in by_state if name in values)
        expert = _own_values(read_expert_examples(run.store, name), split, metric) if name in arrived else {}
        found = [values.get(name, ("", first_n)) for values in (*by_state, expert)]
        scored = [metric == own and values_n.shape == first_n.shape for metric, values_n in found]
        nothing_n = np.full(len(first_n), np.nan)
        *states, own_expert_n = [
            values_n if fits else nothing_n for (_, values_n), fits in zip(found, scored, strict=True)
        ]
        values_ns = np.stack(states, axis=1)
        flipped = statuses(values_ns, scored) if is_share(own) else np.full(values_ns.shape, Status.LOSS.value)
        frame = _asked(name, asked.get(name), len(first_n), unread)
        frame["metric"], frame["base"], frame["expert"] = own, values_ns[:, 0], own_expert_n
        for step in range(1, run.steps + 1):
            frame[f"step_{step}"], frame[f"status_{step}"] = values_ns[:, step], flipped[:, step]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)[list(columns(run.steps))]


def read_tasks(run: Run, split: str) -> dict[str, Task]:
    """The tasks of a split that scored the run, by name.

    Raises :class:`InputError` where the run names no probe files, and where those it names have changed or gone.
    """
    return {name: task for (own, name), task in tasks_as_scored(run).items() if own == split}


def tasks_as_scored(run: Run) -> dict[tuple[str, str], Task]:
    """Every task that scored the run, by split and name; raises as :func:`read_tasks`."""
    probes = run.store.file.probes
    if probes.where is None:
        raise InputError(f"run {run.path} names no probe files, so its prompts and answers are not known")
    if probes.fingerprint is None:
        raise InputError(f"run {run.path} does not say which content its probe files had, so they may be others now")
    if probes_fingerprint(probes.path) != probes.fingerprint:
        raise InputError(
            f"{probes.path}: expected the probe files that scored run {run.path}, found others; "
            "`gcwm-viz score RUN --replace` scores it by these"
        )
    return {(task.split, task.name): task for task in load_tasks(probes.path)}


def statuses(values_ns: np.ndarray, scored: Sequence[bool]) -> np.ndarray:
    """The status of every example at every state (n, s), as text; at the base always ``unknown``.

    ``values_ns``: 1 right, 0 wrong, NaN undefined; column 0 is the base. ``scored``: whether the state was scored; one
    that was not is passed over, so that the next is compared with the last that was.
    """
    right_ns, known_ns = values_ns > 0.5, ~np.isnan(values_ns)
    out = np.full(values_ns.shape, Status.UNKNOWN.value, dtype=object)
    ever_n, sure_n, before = right_ns[:, 0], known_ns[:, 0], 0
    for state in range(1, values_ns.shape[1]):
        if not scored[state]:
            continue
        now_n, was_n = right_ns[:, state], right_ns[:, before]
        cases = {
            Status.UNKNOWN: ~(known_ns[:, state] & known_ns[:, before]),
            Status.KEPT: was_n & now_n,
            Status.LOST: was_n & ~now_n,
            Status.REGAINED: ever_n & now_n,
            Status.STILL_LOST: ever_n & ~now_n,
            Status.LEARNED: sure_n & now_n,
            Status.NEVER: sure_n & ~now_n,
        }
        chosen = [status.value for status in cases]
        out[:, state] = np.select(list(cases.values()), chosen, Status.UNKNOWN.value)
        ever_n, sure_n, before = ever_n | now_n, sure_n & known_ns[:, state], state
    return out


def flips(table: pd.DataFrame) -> pd.DataFrame:
    """Number of examples by status, one row a task and step, of the tasks with right and wrong.

    table: of :func:`example_table`. Columns: task, step, one of each of :data:`COUNTED`, and n, their sum. Where
    nothing is unknown, (learned + regained − lost) / n is the change of the score since the scored state before.
    """
    steps = [int(name.removeprefix("status_")) for name in map(str, table) if name.startswith("status_")]
    shares = table[table["metric"].map(is_share).astype(bool)]
    rows = []
    for task, own in shares.groupby("task", sort=False):
        for step in steps:
            counts = own[f"status_{step}"].value_counts()
            row = {status.value: int(counts.get(status.value, 0)) for status in COUNTED}
            rows.append({"task": task, "step": step} | row | {"n": len(own)})
    return pd.DataFrame(rows, columns=["task", "step", *(status.value for status in COUNTED), "n"])


def changes(table: pd.DataFrame, step: int) -> pd.Series:
    """Value after ``step`` minus that at the scored state before it, of every example; NaN where one is undefined.

    Of a loss, positive = worse.
    """
    before = ["base", *(f"step_{earlier}" for earlier in range(1, step))]
    change = pd.Series(np.nan, index=table.index)
    for _, own in table.groupby("task", sort=False):
        # A state without a single value was not scored, or is undefined throughout.
        last = next((column for column in reversed(before) if own[column].notna().any()), None)
        if last is not None:
            change[own.index] = own[f"step_{step}"] - own[last]
    return change


def _own_values(values: Sequence[TaskValues], split: str, metric: str) -> dict[str, tuple[str, np.ndarray]]:
    """(metric, values (n,)) by task of one state."""
    found = {}
    for task in values:
        own = own_metric(task.metrics, metric)
        if own is None and metric == "accuracy":
            own = next((name for name in _LOSSES if name in task.metrics), None)
        if task.split == split and own is not None and task.metrics[own].ndim == 1:
            found[task.name] = own, task.metrics[own].numpy()
    return found


def _asked(name: str, task: Task | None, size: int, reason: str) -> pd.DataFrame:
    """The columns that say what was asked; ``reason``: why no task is known."""
    prompts: Sequence[str] = [""] * size
    expected: Sequence[str] = [""] * size
    if task is None:
        reason = reason or "the probe files have no task of this name"
    elif isinstance(task, HarnessTask):
        reason = "a task of lm-evaluation-harness, which keeps its prompts"
    elif len(task) != size:
        reason = f"the probe file has {len(task)} examples, and the run stores the values of {size}"
    elif isinstance(task, PromptTask):
        prompts, expected = task.prompts, task.answers
    elif isinstance(task, ChoiceTask):
        prompts = task.questions
        expected = [choices[answer] for choices, answer in zip(task.choices, task.answers, strict=True)]
    else:
        prompts = task.texts
    columns = {"example": range(1, size + 1), "prompt": prompts, "expected": expected, "reason": reason}
    return pd.DataFrame({"task": name} | columns)


def _nothing(run: Run, split: str, metric: str) -> str:
    """Why there is no example to show."""
    scores = run.tables["scores"]
    if scores.empty:
        return f"run {run.path} was not scored: it has no probe results. Start it with probes, or use `score`"
    if any(read_examples(run.store, step) for step in (0, run.steps)):
        return f"run {run.path} stores no examples of the split {split} in the metric {metric}"
    return (
        f"run {run.path} was scored by an earlier version, which stored means alone; "
        "`gcwm-viz score RUN --replace` stores every example"
    )
