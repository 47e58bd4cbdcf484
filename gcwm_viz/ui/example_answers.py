"""How the base, the expert and the model after every step answer one example: a table that fills as they answer."""

import html
import math
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from gcwm_viz.errors import InputError
from gcwm_viz.figures.theme import num, percent
from gcwm_viz.probes.answers import MAX_TEXT, Answer, answer
from gcwm_viz.probes.metrics import is_share
from gcwm_viz.probes.stored import Checkpoint, models
from gcwm_viz.probes.tasks import ChoiceTask, HarnessTask, Task, TextTask
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.live import live_model, obstacle
from gcwm_viz.ui.tokens import legend, shaded

_KEPT = "example-answers"
_MOST_CHOICES = 4
_LONGEST_NAME = 24
_CELL = "padding: 0.3rem 0.7rem 0.3rem 0; text-align: left; vertical-align: top; font-weight: normal"
_RULE = "border-bottom: 1px solid rgba(139, 146, 156, 0.3)"
_HERE = "background-color: rgba(139, 146, 156, 0.16)"


@dataclass(frozen=True)
class _Row:
    """One state: its name, whether it is of the chosen step, what is stored of it (1, 0 or NaN, and the status), and
    its answer, or why it gave none."""

    name: str
    here: bool
    value: float
    status: str
    answer: Answer | str | None = None


def show(view: View, split: str, task: Task, row: pd.Series) -> None:
    """Answers to the example of ``row`` (of :func:`gcwm_viz.runs.examples.example_table`), computed now."""
    if isinstance(task, HarnessTask):
        return
    try:
        reason = obstacle(view.run)
    except InputError as error:
        reason = str(error)
    if reason:
        st.text(f"The model cannot answer: {reason}")
        return
    states = _states(view.run, task.name)
    rows = [_row(view, state, row) for state in states]
    asked = (view.run, split, task.name, int(row["example"]))
    kept, given = st.session_state.get(_KEPT, (None, []))
    box = st.empty()
    if kept != asked:
        given = []
        box.html(_table(rows, given, task, row))
        try:
            with live_model(view.run) as model:
                for state in states:
                    try:
                        model.set(state)
                        given.append(answer(model.model, model.tokenizer, task, int(row["example"])))
                    except InputError as error:
                        given.append(str(error))
                    box.html(_table(rows, given, task, row))
        except (InputError, OSError) as error:  # the rest of the page needs no model
            box.text(f"The model cannot answer: {error}")
            return
        st.session_state[_KEPT] = asked, given
    else:
        box.html(_table(rows, given, task, row))
    st.html(legend())
    notes = []
    if isinstance(task, TextTask):
        notes.append(f"At most {MAX_TEXT} tokens of a text are shown, and the loss is theirs.")
    if view.run.store.settings.continual.keep == "last" and view.run.steps > 1:
        notes.append("The run keeps the model of its last step alone, so those of earlier steps cannot answer.")
    if notes:
        st.caption(" ".join(notes))


def _states(run: Run, task: str) -> list[Checkpoint]:
    """The base, the task's own expert, and every step that the run keeps."""
    return [
        checkpoint
        for checkpoint in models(run.store)
        if checkpoint[0] in ("base", "step") or (checkpoint[0] == "expert" and checkpoint[2] == task)
    ]


def _row(view: View, checkpoint: Checkpoint, row: pd.Series) -> _Row:
    kind, step, update = checkpoint
    column = f"step_{step}" if kind == "step" else kind
    value = float(row[column]) if is_share(str(row["metric"])) else math.nan
    status = str(row[f"status_{step}"]) if kind == "step" else ""
    update = update if len(update) <= _LONGEST_NAME else f"{update[:_LONGEST_NAME]}…"
    name = {"base": "base", "expert": f"expert of {update}"}.get(kind, f"step {step} · {update}")
    return _Row(name, kind == "step" and step == view.step, value, status)


def _table(rows: list[_Row], given: list[Answer | str], task: Task, row: pd.Series) -> str:
    """HTML of the answers so far; every text from a file or a model is escaped."""
    texts = isinstance(task, TextTask)
    answered = [] if texts else ["Its choice" if isinstance(task, ChoiceTask) else "Greedy answer"]
    heads = ["Model", *([] if texts else [""]), *answered, "The text" if texts else "Expected", "Nats per token"]
    lines = [f"<tr style='{_RULE}'>{''.join(f'<th scope=col style={_quoted(_CELL)}>{h}</th>' for h in heads)}</tr>"]
    for index, state in enumerate(rows):
        found = given[index] if index < len(given) else None
        cells = [] if texts else [_mark(state)]
        if found is None:
            cells += ["…"] if index == len(given) else [""]
        elif isinstance(found, str):
            cells += [html.escape(found)]
        else:
            cells += [] if texts else [_given(found, task, row)]
            cells += [f"<span style='font-family: monospace'>{shaded(found.expected)}</span>", num(found.loss)]
        cells += [""] * (len(heads) - 1 - len(cells))
        name = f"<th scope=row style={_quoted(f'{_CELL}; white-space: nowrap')}>{html.escape(state.name)}</th>"
        look = f"{_RULE}; {_HERE}" if state.here else _RULE
        lines.append(f"<tr style='{look}'>{name}{''.join(f'<td style={_quoted(_CELL)}>{c}</td>' for c in cells)}</tr>")
    return f"<table style='width: 100%; border-collapse: collapse'>{''.join(lines)}</table>"


def _mark(state: _Row) -> str:
    if math.isnan(state.value):
        return "not known"
    right = state.value > 0.5
    said = state.status or ("right" if right else "wrong")
    return f"<span style='white-space: nowrap'>{'✓' if right else '✕'} {html.escape(said)}</span>"


def _given(found: Answer, task: Task, row: pd.Series) -> str:
    if not isinstance(task, ChoiceTask):
        return f"<span style='font-family: monospace'>{shaded(found.given)}</span>"
    choices = task.choices[int(row["example"]) - 1]
    if any(map(math.isnan, found.shares)):
        return "no choice: its logits are not finite"
    ranked = sorted(zip(found.shares, choices, strict=True), key=lambda entry: -entry[0])[:_MOST_CHOICES]
    (share, likeliest), *others = [(percent(share), html.escape(choice)) for share, choice in ranked]
    return f"<strong>{likeliest}</strong> {share}" + "".join(f" · {choice} {part}" for part, choice in others)


def _quoted(text: str) -> str:
    return f"'{text}'"
