"""What a row of answers says as a sentence, and its cards as HTML."""

import math

import pytest

from gcwm_viz.probes.generation import END, Token
from gcwm_viz.probes.question import Judgement, Question
from gcwm_viz.probes.stored import Checkpoint
from gcwm_viz.probes.tasks import PromptTask
from gcwm_viz.ui.answers import Answer, card, sentence
from tests.factories_runs import NASTY

PROBE = Question.of(PromptTask("capital", "dev", ("capital Egypt=",), ("Cairo",)), 1)
NAMES = ("past", "capital", "index", "symbol", "close", "eval")


def answered(text: str, right: bool | None = None, *, probe: bool = False) -> Answer:
    tokens = [Token(text, 0.5), Token(END, 0.8, closes=True)]
    return Answer(tokens, Judgement(right, 0.25) if probe else None, done=True)


def course(rights: dict[int, bool | None], **others: bool) -> str:
    answers: dict[Checkpoint, Answer] = {
        (kind, 0 if kind == "base" else 2, "" if kind == "base" else "capital"): answered("x", right, probe=True)
        for kind, right in others.items()
    }
    for step, right in rights.items():
        answers["step", step, NAMES[step - 1]] = answered("x", right, probe=True)
    return sentence(PROBE, answers).removeprefix("Expected: **Cairo**. ")


@pytest.mark.parametrize(
    ("rights", "said"),
    [
        ("011000", "**Right** after steps 2 and 3, **lost at step 4, which adds symbol**."),
        ("111111", "**Right** after steps 1–6, never lost."),
        ("000000", "**Wrong after every step** that is shown."),
        ("000001", "**Right** after step 6."),
        (
            "010111",
            "**Right** after steps 2 and 4–6, **lost at step 3, which adds index**, back at step 4, which adds symbol.",
        ),
        ("111110", "**Right** after steps 1–5, **lost at step 6, which adds eval**."),
    ],
)
def test_the_sentence_says_where_it_is_lost(rights: str, said: str) -> None:
    assert course({step: right == "1" for step, right in enumerate(rights, 1)}) == said


def test_between_steps_that_are_not_shown_it_says_between() -> None:
    assert course({2: True, 6: False}) == "**Right** after step 2, **lost between steps 2 and 6**."


def test_base_and_expert_are_named_and_what_cannot_be_judged_is_not() -> None:
    assert (
        course({2: True}, base=False, expert=True)
        == "**Right** after step 2. The base is wrong and the expert is right."
    )
    assert course({2: True, 3: None, 4: False}).endswith("**lost between steps 2 and 4**.")
    assert course({}) == "Expected: **Cairo**."
    assert course({3: False}) == "**Wrong** after step 3."


def test_of_a_prompt_of_ones_own_it_says_where_the_answer_changes() -> None:
    def said(*texts: str) -> str:
        return sentence(Question("x"), {("step", k, NAMES[k - 1]): answered(text) for k, text in enumerate(texts, 1)})

    assert said("a", "a", "a") == "The answer is the same after every step that is shown."
    assert said("a", "a", "b") == "The answer changes once, at step 3, which adds index."
    assert said("a", "b", "a", "a") == "The answer changes at steps 2 and 3."
    assert said("a") == ""


def test_names_and_answers_are_never_markup() -> None:
    hostile = Question.of(PromptTask(NASTY, "dev", ("x",), (NASTY,)), 1)
    answers: dict[Checkpoint, Answer] = {
        ("step", 1, NASTY): answered(NASTY, True, probe=True),
        ("step", 2, NASTY): answered(NASTY, False, probe=True),
    }
    said = sentence(hostile, answers)
    assert NASTY not in said
    assert "<b>" not in said.replace("\\<", "").replace("\\>", "")
    for checkpoint, answer in answers.items():
        shown = card(checkpoint, answer)
        assert "&lt;b&gt;bold" in shown
        assert "<a" not in shown
        assert "<b>bold" not in shown
    fault = card(("base", 0, ""), Answer(fault="<i>no</i>", done=True))
    assert "&lt;i&gt;no" in fault


def test_a_card_says_verdict_and_probabilities() -> None:
    right, wrong = (answered("x", value, probe=True) for value in (True, False))
    assert "✓ right" in card(("base", 0, ""), right)
    assert "probability 40 %" in card(("base", 0, ""), right)
    assert "✗ wrong" in card(("step", 2, "a"), wrong)
    assert "right answer: 25 %" in card(("step", 2, "a"), wrong)
    assert "✗ lost here" in card(("step", 2, "a"), wrong, lost=True)
    unknown = Answer([Token("x", 0.5)], Judgement(None, math.nan), done=True)
    assert "not judged" in card(("base", 0, ""), unknown)
    assert "right answer: n/a" in card(("base", 0, ""), unknown)


def test_an_answer_without_an_end_shows_that_it_goes_on() -> None:
    cut = card(("base", 0, ""), Answer([Token("x", 0.5)], done=True))
    assert "…" in cut
    assert "probability 50 %, cut at 1 tokens" in cut
    assert "…" not in card(("base", 0, ""), answered("x"))
    assert "…" in card(("base", 0, ""), Answer())
