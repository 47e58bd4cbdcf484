"""One question to the base, an expert and the model after every step, answered before the reader's eyes.

One model is in memory and set to one state after another; answers are kept for the session until the question changes.
"""

import time
from typing import Any

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.errors import InputError
from gcwm_viz.probes.generation import greedy, unknown_tokens
from gcwm_viz.probes.question import Question
from gcwm_viz.probes.stored import Checkpoint, models
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui import questions, trouble
from gcwm_viz.ui.answers import STYLE, Answer, card, name_of, sentence
from gcwm_viz.ui.frame import View
from gcwm_viz.ui.live import live_model, obstacle
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.tokens import legend

MOST_STEPS = 8
"""Steps that are asked unless the reader chooses others."""
REDRAW_S = 0.05
MOST_TOKENS = 16
"""Of an answer, unless the reader chooses more."""
_ANSWERS = "ask-answers"


def show(view: View) -> None:
    """The question, who answers it, and the row of answers."""
    st.html(STYLE)
    box, bar = st.container(), st.container(horizontal=True, vertical_alignment="bottom")
    question = questions.choose(view.run, box, bar)
    with bar, st.popover("Who answers"):
        row, most = _who_answers(view, question)
    if question is None:
        return
    if reason := obstacle(view.run):
        trouble.stop(f"The app cannot load this run's model: {reason}")
    answer_row(view.run, question, row, most)


def _who_answers(view: View, question: Question | None) -> tuple[list[Checkpoint], int]:
    """The models in the order of the row, and most tokens of an answer."""
    every = list(models(view.run.store))
    steps = [checkpoint[1] for checkpoint in every if checkpoint[0] == "step"]
    default = _expert(view, question)
    # Another default is another widget, so that it shows.
    expert = st.selectbox(
        "Expert",
        view.run.updates,
        index=view.run.updates.index(default),
        format_func=lambda name: name[:60],
        key=f"ask-expert-{default}",
    )
    chosen = st.multiselect(
        "After steps", steps, default=_spread(steps), key=f"ask-steps-{view.run.path.name}-{len(steps)}"
    )
    most = st.slider("Tokens of an answer, at most", 4, 128, MOST_TOKENS, step=4, key="ask-most")
    if len(steps) < view.run.steps:
        st.caption("This run keeps the tensors of its last step alone (keep=last), so no earlier one can answer.")
    return _models(every, expert, chosen), most


def usual_models(view: View, question: Question) -> list[Checkpoint]:
    """Who answers unless the reader chooses: the base, the expert of the question's task, and the model after steps."""
    every = list(models(view.run.store))
    steps = [checkpoint[1] for checkpoint in every if checkpoint[0] == "step"]
    return _models(every, _expert(view, question), _spread(steps))


def _expert(view: View, question: Question | None) -> str:
    """The expert of the question's task, or of the step."""
    task = question.probe.name if question is not None and question.probe is not None else ""
    return task if task in view.run.updates else view.update


def _spread(steps: list[int]) -> list[int]:
    """At most :data:`MOST_STEPS` of the steps, the first and the last among them."""
    if len(steps) <= MOST_STEPS:
        return steps
    return [steps[round(k)] for k in np.linspace(0, len(steps) - 1, MOST_STEPS)]


def _models(every: list[Checkpoint], expert: str, steps: list[int]) -> list[Checkpoint]:
    return [
        checkpoint
        for checkpoint in every
        if checkpoint[0] == "base"
        or (checkpoint[0] == "expert" and checkpoint[2] == expert)
        or (checkpoint[0] == "step" and checkpoint[1] in steps)
    ]


def answer_row(run: Run, question: Question, row: list[Checkpoint], most: int) -> None:
    """Every model's answer in its own card, and what they say together."""
    said = st.container(key="ask-sentence").empty()
    with st.container(key="ask-row"):
        boxes = {checkpoint: st.empty() for checkpoint in row}
    below = st.empty()
    answers = _kept(run, question, most)
    missing = [checkpoint for checkpoint in row if checkpoint not in answers]
    for checkpoint in row:
        _draw(boxes[checkpoint], row, checkpoint, answers | {checkpoint: answers.get(checkpoint, Answer())})
    if missing:
        said.markdown("Loading the model …")
        try:
            _ask(run, question, row, missing, answers, boxes, said, most)
        except InputError as error:
            said.empty()
            trouble.show("This question cannot be answered:", error)
            return
    said.markdown(sentence(question, {checkpoint: answers[checkpoint] for checkpoint in row}) or "&nbsp;")
    below.html(legend())


def _ask(
    run: Run,
    question: Question,
    row: list[Checkpoint],
    missing: list[Checkpoint],
    answers: dict[Checkpoint, Answer],
    boxes: dict[Checkpoint, DeltaGenerator],
    said: DeltaGenerator,
    most: int,
) -> None:
    """Fill in the missing answers, each drawn as it grows. Raises :class:`InputError` for a model that cannot be loaded
    and for a prompt that it does not take."""
    with live_model(run) as live:
        ids = question.ids(live.tokenizer)
        unknown = unknown_tokens(live.tokenizer, ids)
        if unknown:
            st.caption(f"{unknown} of the question's tokens are unknown to this model's tokenizer, which drops them.")
        longest = max(most, question.tokens(live.tokenizer))
        for checkpoint in missing:
            answer, drawn = Answer(), time.monotonic()
            name, update = name_of(checkpoint)
            said.markdown(f"Asking: {as_markdown(f'{name} {update}'.strip(), 80)} …")
            try:
                live.set(checkpoint)
            except InputError as error:
                answer.fault = str(error)
            else:
                tokens = greedy(live.model, live.tokenizer, ids, longest)
                try:
                    for token in tokens:
                        answer.tokens.append(token)
                        if time.monotonic() - drawn > REDRAW_S:
                            _draw(boxes[checkpoint], row, checkpoint, answers | {checkpoint: answer})
                            drawn = time.monotonic()
                except InputError as error:
                    answer.fault = str(error)
                else:
                    answer.judgement = question.judge(live.model, live.tokenizer)
            answer.done = True
            answers[checkpoint] = answer
            _draw(boxes[checkpoint], row, checkpoint, answers)


def _draw(
    box: DeltaGenerator, row: list[Checkpoint], checkpoint: Checkpoint, answers: dict[Checkpoint, Answer]
) -> None:
    """Draw one card; it says whether the step before, as shown, was right."""
    before = row[row.index(checkpoint) - 1] if checkpoint[0] == "step" and checkpoint != row[0] else None
    adjacent = before is not None and before[0] == "step" and before[1] == checkpoint[1] - 1
    was = answers.get(before) if before is not None and adjacent else None
    answer = answers[checkpoint]
    box.html(card(checkpoint, answer, lost=answer.right is False and was is not None and bool(was.right)))


def _kept(run: Run, question: Question, most: int) -> dict[Checkpoint, Answer]:
    """Answers of this session to the same question."""
    key: Any = (run, question, most)
    held = st.session_state.get(_ANSWERS)
    if held is None or held[0] != key:
        held = st.session_state[_ANSWERS] = (key, {})
    answers: dict[Checkpoint, Answer] = held[1]
    return answers
