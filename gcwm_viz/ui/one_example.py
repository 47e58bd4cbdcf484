"""One example on the page Examples: what was asked, its loss over the steps, and every model's answer."""

import pandas as pd
import streamlit as st

from gcwm_viz.figures import example_loss
from gcwm_viz.probes.encoding import listed
from gcwm_viz.probes.metrics import UNITS, is_share
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, Task, TextTask
from gcwm_viz.runs.examples import Status
from gcwm_viz.ui import charts, example_answers, selection
from gcwm_viz.ui.examples import Examples
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.text import as_markdown

ASK, WHERE = "pages/14_Ask.py", "pages/12_Where.py"


def show(view: View, examples: Examples, row: pd.Series) -> None:
    """What was asked, how every model answers it, and its loss over the steps."""
    name, number = str(row["task"]), int(row["example"])
    task = examples.tasks.get(name)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(f"{as_markdown(name, 60)}, example {number}", anchor=False, width="content")
        if isinstance(task, PromptTask | ChoiceTask):
            selection.link(ASK, "Ask this →", task=name, example=number, split=examples.split)
        if lost := [step for step in range(1, view.run.steps + 1) if row[f"status_{step}"] == Status.LOST]:
            step = max(at for at in lost if at <= max(view.step, lost[0]))
            selection.link(WHERE, "Which matrices did it →", step=step, task=name)
    if row["reason"]:
        st.text(f"No prompt and answer: {row['reason']}")
    else:
        _asked(row, task)
    left, right = st.columns([3, 2], gap="medium")
    with right:  # first: it is stored, while the answers are computed
        _loss(examples, row)
    if task is not None and not row["reason"]:
        with left:
            example_answers.show(view, examples.split, task, row)


def _asked(row: pd.Series, task: Task | None) -> None:
    texts = {"Text" if isinstance(task, TextTask) else "Prompt": row["prompt"], "Expected answer": row["expected"]}
    if isinstance(task, ChoiceTask):
        texts["Prompt"] = listed(row["prompt"], task.choices[int(row["example"]) - 1]).removesuffix("\nAnswer:")
    texts = {label: text for label, text in texts.items() if text}
    for box, (label, text) in zip(st.columns([3, 2][: len(texts)], gap="medium"), texts.items(), strict=True):
        with box.container(gap="xsmall"):
            st.caption(label)
            st.code(text, language=None, wrap_lines=True)


def _loss(examples: Examples, row: pd.Series) -> None:
    """The chart of the example's loss over the steps."""
    states = ["base", *(f"step_{step}" for step in range(1, examples.run.steps + 1))]
    losses = examples.losses
    own = losses[(losses["task"] == row["task"]) & (losses["example"] == row["example"])]
    values = own.iloc[0] if len(own) else pd.Series(float("nan"), index=[*states, "expert"])
    share = is_share(str(row["metric"]))
    about = example_loss.ABOUT if share else example_loss.TEXT
    right = [float(row[state]) if share else float("nan") for state in states]
    figure = example_loss.example_loss([float(values[s]) for s in states], right, float(values["expert"]), about=about)
    unit = UNITS[str(row["metric"])]
    data = pd.DataFrame(
        {"state": states, "nats per token": [values[s] for s in states], unit: [row[s] for s in states]}
    )
    charts.show(figure, about, data, key="example-loss")
