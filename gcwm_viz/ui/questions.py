"""What the page Ask asks: a typed prompt, or an example of the run's probe files. It is kept in the URL, as ``prompt``
or as ``task``, ``example`` (from 1) and ``split``, and in the session for the way back from another page."""

import random

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from gcwm_viz.errors import InputError
from gcwm_viz.probes.question import Question
from gcwm_viz.probes.tasks import PromptTask
from gcwm_viz.runs.tables import Run
from gcwm_viz.ui.probe_files import Tasks, answered_tasks, lost_examples
from gcwm_viz.ui.text import as_markdown

MAX_CHARACTERS = 4000
Asked = dict[str, str]
"""A question as query parameters."""
_NAMES = ("prompt", "task", "example", "split")
_WANTED, _SHOWN = "ask-wanted", "ask-shown"
_TEXT, _TASK, _EXAMPLE = "ask-text", "ask-task", "ask-example"


def choose(run: Run, box: DeltaGenerator, bar: DeltaGenerator) -> Question | None:
    """Text box in ``box`` and choice of a probe in ``bar``, and what they ask; None where that is nothing yet, or
    cannot be asked, with the sentence that says why."""
    asked = _requested()
    tasks, missing = tasks_of(run)
    question, fault = _question(asked, tasks, missing)
    moved = st.session_state.get(_SHOWN) != asked
    _show(asked)
    with box:
        _text_box(question, moved=moved)
    if tasks:
        with bar:
            _probe_controls(run, tasks, asked)
    elif missing:
        st.caption(f"No probe can be taken: {as_markdown(missing, 400)}.")
    if fault:
        st.info(as_markdown(fault, 600))
    elif question is None:
        st.caption("Type a prompt and press Enter, or take a probe.")
    elif "\n" in question.prompt or len(question.prompt) > MAX_CHARACTERS:
        st.code(question.prompt, language=None, wrap_lines=True)
    return question


def ask(run: Run, box: DeltaGenerator | None, default: Asked) -> tuple[Question | None, Asked]:
    """What is asked in the talk, also as query parameters: ``default`` until something else was, that this run has.

    box: for the text box; without it only examples of tasks can be asked.
    """
    asked = _requested()
    tasks, missing = tasks_of(run)
    question, _ = _question(asked, tasks, missing)
    if question is None or (box is None and "task" not in asked):
        asked = default
        question, _ = _question(asked, tasks, missing)
    if key := _key(asked, tasks):
        asked = asked | {"split": key[0]}
    moved = st.session_state.get(_SHOWN) != asked
    _show(asked)
    if box is not None:
        with box:
            _text_box(question, moved=moved)
    return question, asked


def tasks_of(run: Run) -> tuple[Tasks, str]:
    """The run's tasks with right answers, or why they are not known."""
    try:
        return answered_tasks(run), ""
    except (InputError, OSError) as error:
        return {}, str(error)


def _requested() -> Asked:
    """What the reader has just chosen, else what the link says, else what was asked last."""
    wanted = st.session_state.pop(_WANTED, None)
    if wanted is None:
        wanted = {name: st.query_params[name] for name in _NAMES if name in st.query_params}
    wanted = wanted or st.session_state.get(_SHOWN, {})
    if "prompt" in wanted:
        return {"prompt": wanted["prompt"]}
    return {name: wanted[name] for name in _NAMES if name in wanted} if "task" in wanted else {}


def _show(asked: Asked) -> None:
    st.session_state[_SHOWN] = asked
    if any(st.query_params.get(name) != asked.get(name) for name in _NAMES):
        others = {name: value for name, value in st.query_params.to_dict().items() if name not in _NAMES}
        st.query_params.from_dict(others | asked)


def _question(asked: Asked, tasks: Tasks, missing: str) -> tuple[Question | None, str]:
    """The question, or why there is none."""
    if "prompt" in asked:
        prompt = asked["prompt"]
        if len(prompt) > MAX_CHARACTERS:
            return None, f"The prompt has {len(prompt)} characters, expected at most {MAX_CHARACTERS}."
        return (_typed(prompt, tasks) if prompt.strip() else None), ""
    if "task" not in asked:
        return None, ""
    name, split = asked["task"], asked.get("split", "")
    if missing:
        return None, f"The example of task {name!r} cannot be asked without its probe file."
    key = _key(asked, tasks)
    if key is None:
        return (
            None,
            f"The run's probe files have no task {name!r} with right answers{f' in {split!r}' if split else ''}.",
        )
    task, example = tasks[key], asked.get("example", "1")
    place = _number(example)
    if not 1 <= place <= len(task):
        return None, f"Task {name!r} has the examples 1 to {len(task)}, and no {example[:20]!r}."
    return Question.of(task, place), ""


def _key(asked: Asked, tasks: Tasks) -> tuple[str, str] | None:
    """The task that is asked, by split and name; without a split the first of its name."""
    split, name = asked.get("split", ""), asked.get("task", "")
    return next((key for key in tasks if key[1] == name and split in ("", key[0])), None)


def _typed(prompt: str, tasks: Tasks) -> Question:
    """A prompt of one's own, or the example of a task that asks the same: its answer can then be judged."""
    for task in tasks.values():
        if isinstance(task, PromptTask) and prompt in task.prompts:
            return Question.of(task, task.prompts.index(prompt) + 1)
    return Question(prompt)


def _number(text: str) -> int:
    """A place given as text, 0 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 9 else 0


def _text_box(question: Question | None, *, moved: bool) -> None:
    if moved or _TEXT not in st.session_state:
        short = question is not None and "\n" not in question.prompt and len(question.prompt) <= MAX_CHARACTERS
        st.session_state[_TEXT] = question.prompt if question is not None and short else ""
    with (
        st.form("ask-form", border=False),
        st.container(horizontal=True, vertical_alignment="bottom", key="ask-prompt"),
    ):
        st.text_input(
            "Prompt",
            key=_TEXT,
            max_chars=MAX_CHARACTERS,
            placeholder="Type a prompt and press Enter",
            label_visibility="collapsed",
        )
        st.form_submit_button("Ask", type="primary", on_click=_ask_prompt)


def _ask_prompt() -> None:
    st.session_state[_WANTED] = {"prompt": st.session_state.get(_TEXT) or ""}


def _probe_controls(run: Run, tasks: Tasks, asked: Asked) -> None:
    """Task, example, and two buttons. The task shown first is the one of which most was lost."""
    lost = lost_examples(run, tasks)
    keys = list(tasks)
    at = (asked.get("split", ""), asked.get("task", ""))
    if at not in tasks:
        at = next((key for key in keys if key[1] == at[1]), max(keys, key=lambda key: len(lost.get(key, []))))
    own, most = lost.get(at, []), len(tasks[at])
    example = _number(asked.get("example", "1")) if "task" in asked else 1
    st.session_state[_TASK], st.session_state[_EXAMPLE] = at, min(max(example, 1), most)
    st.selectbox("Or take a probe", keys, key=_TASK, format_func=_label, on_change=_take, args=(1,), width=210)
    st.number_input(f"Example, 1 to {most}", 1, most, key=_EXAMPLE, on_change=_take, width=170)
    st.button("Another", on_click=_take, args=(next_of(list(range(1, most + 1)), example),))
    st.button(
        "A forgotten one",
        on_click=_take,
        args=(next_of(own, example),),
        disabled=not own,
        help="Right after an earlier step and wrong after the last one, as the run stores its scores: "
        f"{len(own) or 'none'} of {most} examples of this task.",
    )


def _label(key: tuple[str, str]) -> str:
    return f"{key[1]} ({'test' if key[0] == 'test' else 'development'})"


def _take(example: int | None = None) -> None:
    number = st.session_state[_EXAMPLE] if example is None else example
    take(st.session_state[_TASK], number)


def take(task: tuple[str, str], example: int) -> None:
    """Ask an example of a task, which is given by split and name."""
    split, name = task
    st.session_state[_WANTED] = {"task": name, "example": str(example), "split": split}


def next_of(examples: list[int], example: int) -> int:
    """The one after ``example`` in a fixed random order, so that a talk can be rehearsed."""
    shuffled = random.Random(0).sample(examples, len(examples))
    if not shuffled:
        return example
    return shuffled[(shuffled.index(example) + 1) % len(shuffled)] if example in shuffled else shuffled[0]
