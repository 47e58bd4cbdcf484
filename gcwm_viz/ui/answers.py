"""The answers of a run's models to one question: each as a card, and all of them as a sentence. Pure text and HTML."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from gcwm_viz.figures.theme import percent
from gcwm_viz.probes.generation import Token
from gcwm_viz.probes.question import Judgement, Question
from gcwm_viz.probes.stored import Checkpoint
from gcwm_viz.ui.text import as_markdown
from gcwm_viz.ui.tokens import shaded

STYLE = """<style>
.st-key-ask-row {display: grid; grid-template-columns: repeat(auto-fill, minmax(min(13.5rem, 100%), 1fr)); gap: 0.8rem}
.ask-card {border: 1px solid rgba(128, 128, 128, 0.4); border-left-width: 0.4rem; border-radius: 0.4rem;
  padding: 0.5rem 0.8rem 0.6rem; min-height: 9.2rem; height: 100%; box-sizing: border-box}
.st-key-ask-row > *, .st-key-ask-row [data-testid=stHtml] {height: 100%}
.ask-right {border-left-color: #009E73}
.ask-lost {border-left-color: #D55E00}
.ask-name {font-weight: 600; font-size: 1.05rem; overflow-wrap: anywhere}
.ask-name small {font-weight: 400; font-size: 0.95rem; opacity: 0.8}
.ask-said {font-size: 1.75rem; line-height: 1.45; overflow-wrap: anywhere; margin: 0.25rem 0 0.35rem}
.ask-note {font-size: 0.95rem; overflow-wrap: anywhere}
.st-key-ask-sentence {min-height: 4rem}
.st-key-ask-sentence p {font-size: 1.35rem; line-height: 1.45}
.st-key-ask-prompt input {font-size: 1.35rem}
</style>"""
"""Large enough for a projector."""


@dataclass
class Answer:
    """What one model answers, as far as it is known. ``cut``: it was not closed within the tokens allowed; ``fault``:
    why there is none; ``stored``: it is the run's score of an example, not what the model said."""

    tokens: list[Token] = field(default_factory=list)
    judgement: Judgement | None = None
    done: bool = False
    fault: str = ""
    stored: bool = False

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def cut(self) -> bool:
        return self.done and not self.fault and not (self.tokens and self.tokens[-1].closes)

    @property
    def probability(self) -> float:
        """Of all tokens together, in [0, 1]."""
        return math.prod(token.probability for token in self.tokens)

    @property
    def right(self) -> bool | None:
        return self.judgement.right if self.judgement else None


def name_of(checkpoint: Checkpoint) -> tuple[str, str]:
    """A model's name and, where there is one, the update that it has or that has just arrived."""
    kind, step, update = checkpoint
    if kind == "step":
        return f"After step {step}", f"adds {update}"
    return ("Base", "") if kind == "base" else ("Expert", update)


def card(checkpoint: Checkpoint, answer: Answer, *, lost: bool = False) -> str:
    """HTML of one model's answer. ``lost``: the model before it was right."""
    name, update = name_of(checkpoint)
    small = f" <small>{html.escape(update)}</small>" if update else ""
    said = shaded(answer.tokens) + (" …" if answer.cut or not (answer.tokens or answer.done) else "")
    if answer.stored:
        said = {True: "✓ right", False: "✗ wrong", None: "not scored"}[answer.right]
    note = html.escape(answer.fault) if answer.fault else _note(answer, lost) if answer.done else "&nbsp;"
    look = "ask-card" + (" ask-right" if answer.right else " ask-lost" if lost else "")
    return (
        f'<div class="{look}"><div class="ask-name">{html.escape(name)}{small}</div>'
        f'<div class="ask-said">{said}</div><div class="ask-note">{note}</div></div>'
    )


def _note(answer: Answer, lost: bool) -> str:
    if answer.stored:
        return "<b>lost here</b>" if lost else "&nbsp;"
    own = f"probability {percent(answer.probability)}"
    own += f", cut at {len(answer.tokens)} tokens" if answer.cut else ""
    if answer.judgement is None:
        return own
    verdict = {True: "<b>✓ right</b>", False: f"<b>✗ {'lost here' if lost else 'wrong'}</b>", None: "not judged"}
    if answer.right:
        return f"{verdict[True]}, {own}"
    return f"{verdict[answer.right]}, {own}<br>right answer: {percent(answer.judgement.probability)}"


def sentence(question: Question, answers: Mapping[Checkpoint, Answer]) -> str:
    """What the row says, in Markdown with names escaped: where the answer is right and where it is lost; of a prompt of
    one's own, where the answer changes."""
    steps = [(step, update, answer) for (kind, step, update), answer in answers.items() if kind == "step"]
    if question.probe is None:
        return _changes([step for step in steps if not step[2].fault])
    judged = [(step, update, answer.right) for step, update, answer in steps if answer.right is not None]
    expected = f"Expected: **{as_markdown(question.expected, 80)}**."
    return f"{expected} {_course(judged)}{_others(answers)}".strip()


def _changes(steps: Sequence[tuple[int, str, Answer]]) -> str:
    changed = [(step, update) for (_, _, before), (step, update, now) in pairwise(steps) if now.text != before.text]
    if len(steps) < 2:
        return ""
    if not changed:
        return "The answer is the same after every step that is shown."
    if len(changed) == 1:
        step, update = changed[0]
        return f"The answer changes once, at step {step}, which adds {as_markdown(update, 40)}."
    return f"The answer changes at {_steps([step for step, _ in changed])}."


def _course(judged: Sequence[tuple[int, str, bool]]) -> str:
    """Where it is right, and every step at which it is lost or comes back."""
    right = [step for step, _, is_right in judged if is_right]
    if not judged:
        return ""
    if not right:
        return (
            "**Wrong after every step** that is shown." if len(judged) > 1 else f"**Wrong** after step {judged[0][0]}."
        )
    if len(right) == len(judged):
        return f"**Right** after {_steps(right)}" + (", never lost." if len(right) > 1 else ".")
    parts = [f"**Right** after {_steps(right)}"]
    for (before, _, was), (step, update, now) in pairwise(judged):
        if was != now and (was or step != right[0]):
            adjacent = step == before + 1
            where = f"at step {step}, which adds {as_markdown(update, 40)}"
            if not adjacent:
                where = f"between steps {before} and {step}"
            parts.append(f"**lost {where}**" if was else f"back {where}")
    return ", ".join(parts) + "."


def _others(answers: Mapping[Checkpoint, Answer]) -> str:
    """Base and expert, where they were asked and could be judged."""
    words = []
    for (kind, _, _), answer in answers.items():
        if kind != "step" and answer.right is not None:
            words.append(f"the {kind} is {'right' if answer.right else 'wrong'}")
    if not words:
        return ""
    text = " and ".join(words)
    return f" {text[0].upper()}{text[1:]}."


def _steps(numbers: Sequence[int]) -> str:
    """step 2; steps 2 and 3; steps 2–5 and 7."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and number == groups[-1][-1] + 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    words = [
        word
        for group in groups
        for word in ([f"{group[0]}–{group[-1]}"] if len(group) > 2 else [str(number) for number in group])
    ]
    listed = words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
    return f"step{'s' if len(numbers) > 1 else ''} {listed}"
