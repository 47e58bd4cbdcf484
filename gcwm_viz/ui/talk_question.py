"""The screen of the talk that asks: one question to the base, an expert and the model after every step."""

from weakref import WeakKeyDictionary

import numpy as np
import streamlit as st

from gcwm_viz.attribution.worst import worst_step
from gcwm_viz.probes.question import Judgement, Question
from gcwm_viz.runs.examples import example_table
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import ask, questions
from gcwm_viz.ui.answers import STYLE, Answer, card, sentence
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.live import missing
from gcwm_viz.ui.probe_files import Tasks, lost_examples
from gcwm_viz.ui.questions import Asked
from gcwm_viz.ui.stage import Screen, Stage
from gcwm_viz.ui.text import as_markdown

_clearest: WeakKeyDictionary[Run, Asked] = WeakKeyDictionary()
_LONGEST = 300


def the_question(view: View) -> Screen | None:
    """Asked live, or else as the run stored its scores; None where neither is possible."""
    live = not missing(view.run)
    if not live and not _default(view.run):
        return None
    return Screen("Question", "One question, asked after every step", lambda stage: _draw(stage, view, live))


def _default(run: Run) -> Asked:
    """The lost example whose loss rose most, of the task that forgot most; without a lost one the first example of the
    first task, and nothing where there is no task."""
    if run not in _clearest and (tasks := questions.tasks_of(run)[0]):
        _clearest[run] = _choose(run, tasks)
    return _clearest.get(run, {})


def _choose(run: Run, tasks: Tasks) -> Asked:
    lost = {key: examples for key, examples in lost_examples(run, tasks).items() if key in tasks and examples}
    if not lost:
        split, name = next(iter(tasks))
        return {"task": name, "example": "1", "split": split}
    worst = worst_step(run.tables["attribution"], run.updates)
    split, name = max(lost, key=lambda key: (worst is not None and key[1] == worst.task, len(lost[key])))
    losses = [run.examples(step, split, "nll").get(name) for step in range(1, run.steps + 1)]
    own, known = lost[split, name], [values for values in losses if values is not None]
    if len(known) > 1:
        rise = np.nan_to_num(known[-1] - np.min(known[:-1], axis=0), nan=-np.inf)
        own = sorted(own, key=lambda example: -float(rise[example - 1]) if example <= len(rise) else np.inf)
    return {"task": name, "example": str(own[0]), "split": split}


def _draw(stage: Stage, view: View, live: bool) -> None:
    run = view.run
    question, asked = questions.ask(run, stage.controls if live else None, _default(run))
    tasks, _ = questions.tasks_of(run)
    key = (asked.get("split", ""), asked.get("task", ""))
    lost = lost_examples(run, tasks).get(key, [])
    if lost:
        following = questions.next_of(lost, int(asked["example"]))
        stage.controls.button(
            "Another lost one", shortcut="A", key="talk-another", on_click=questions.take, args=(key, following)
        )
    if question is None:
        stage.say("Type a question and press Enter.")
        return
    sentence = f"**{as_markdown(question.prompt, _LONGEST)}**"
    if lost and int(asked["example"]) in lost:
        sentence += (
            f" is one of **{len(lost)} of {len(tasks[key])}** questions of {as_markdown(key[1], 40)} that were once "
            "answered rightly, and are not after the last step."
        )
    stage.say(sentence)
    with stage.picture:
        st.html(STYLE)
        if live:
            ask.answer_row(run, question, ask.usual_models(view, question), ask.MOST_TOKENS)
        else:
            _stored_row(view, question, key, int(asked["example"]))


def _stored_row(view: View, question: Question, key: tuple[str, str], example: int) -> None:
    """Right or wrong, as it was scored, where the model cannot be loaded to say more."""
    table = example_table(view.run, key[0])
    row = table[(table["task"] == key[1]) & (table["example"] == example)].iloc[0]
    usual = ask.usual_models(view, question)
    answers = {model: _stored(row[f"step_{model[1]}" if model[0] == "step" else model[0]]) for model in usual}
    with st.container(key="ask-sentence"):
        st.markdown(f"{sentence(question, answers)} As scored with the run: its model cannot be loaded here.")
    with st.container(key="ask-row"):
        before = None
        for model, answer in answers.items():
            lost = model[0] == "step" and before is not None and bool(before.right) and answer.right is False
            st.html(card(model, answer, lost=lost))
            before = answer if model[0] == "step" else None


def _stored(value: float) -> Answer:
    right = None if np.isnan(value) else bool(value > 0.5)
    return Answer(judgement=Judgement(right, np.nan), done=True, stored=True)
