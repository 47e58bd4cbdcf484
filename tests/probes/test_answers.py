"""How a model answers one example, against the probe that scores it."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from gcwm_viz.probes.answers import MAX_TEXT, Answer, answer
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.generation import Token
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, Style, TextTask, single
from tests.probes.models import tiny_lab

QUESTIONS = ("1+1=", "2+2=", "3+3=", "4+4=")
CHOICES = tuple((str(k), f"{k} or {k + 1}", "7") for k in range(4))


@pytest.fixture(scope="module")
def lab() -> tuple[Any, Any]:
    return tiny_lab()


def measured(lab: tuple[Any, Any], task: Any) -> dict[str, list[float]]:
    """Values of every example by the probe."""
    (values,) = BehaviourProbe(lab[1], [task]).measure(lab[0])
    return {name: value.tolist() for name, value in values.metrics.items()}


def said(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens)


def test_a_prompt_has_a_greedy_answer_and_the_loss_of_the_expected_one(lab: tuple[Any, Any]) -> None:
    task = PromptTask("sums", "dev", QUESTIONS, ("2", "4", "6", "18"))
    values = measured(lab, task)
    for example in range(1, 5):
        found = answer(*lab, task, example)
        # Alone, and in a batch with others: a few roundings of float32 logits.
        assert found.loss == pytest.approx(values["nll"][example - 1], rel=1e-5)
        assert said(found.expected).startswith(task.answers[example - 1])
        assert (said(found.given) == said(found.expected)) == (values["em"][example - 1] == 1)
        assert found.given
        assert not found.shares


@pytest.mark.parametrize("scoring", ["letter", "text"])
def test_the_likeliest_choice_is_that_of_the_probe(lab: tuple[Any, Any], scoring: str) -> None:
    style = Style(scoring=scoring)
    chosen = []
    for right in range(3):  # with every answer in turn, accuracy tells which choice the probe takes
        task = ChoiceTask("sums", "dev", QUESTIONS, CHOICES, (right,) * 4, style=style)
        values = measured(lab, task)
        found = [answer(*lab, task, example) for example in range(1, 5)]
        for own, accuracy, loss in zip(found, values["acc"], values["nll"], strict=True):
            assert sum(own.shares) == pytest.approx(1)
            assert (max(own.shares) == own.shares[right]) == (accuracy == 1)
            assert own.loss == pytest.approx(loss, rel=1e-5)
            assert not own.given
        chosen.append(sum(values["acc"]))
    assert sum(chosen) == 4


def test_shares_of_letters_are_their_probabilities_among_the_choices(lab: tuple[Any, Any]) -> None:
    task = ChoiceTask("sums", "dev", QUESTIONS, CHOICES, (0, 1, 2, 0))
    losses = [answer(*lab, task_of(task, right), 2).expected for right in range(3)]
    likelihoods = torch.tensor([math.prod(token.probability for token in tokens) for tokens in losses])
    assert answer(*lab, task, 2).shares == pytest.approx((likelihoods / likelihoods.sum()).tolist(), rel=1e-5)


def task_of(task: ChoiceTask, right: int) -> ChoiceTask:
    return ChoiceTask(task.name, task.split, task.questions, task.choices, (right,) * len(task))


def test_a_text_is_scored_token_by_token(lab: tuple[Any, Any]) -> None:
    task = TextTask("texts", "dev", ("number 1 and 2", "9" * 60))
    found = [answer(*lab, task, example) for example in (1, 2)]
    tokens = [len(own.expected) for own in found]
    totals = [own.loss * count for own, count in zip(found, tokens, strict=True)]
    # The score of a text task is the loss over all of its tokens.
    assert sum(totals) / sum(tokens) == pytest.approx(sum(measured(lab, task)["nll"]) / 2, rel=1e-5)
    assert tokens == [14, 60]
    assert said(found[0].expected) == "number 1 and 2"
    assert max(tokens) < MAX_TEXT


@pytest.mark.parametrize(
    "task",
    [
        PromptTask("a", "dev", ("p", "q"), ("1", "2")),
        ChoiceTask("a", "dev", ("p", "q"), (("1", "2"), ("3", "4")), (0, 1)),
        TextTask("a", "dev", ("one", "two")),
    ],
)
def test_one_example_of_a_task(task: Any) -> None:
    assert len(single(task, 1)) == len(single(task, 2)) == 1
    assert single(task, 1) != single(task, 2)


def test_a_loss_that_is_not_finite_stays_undefined() -> None:
    assert math.isnan(Answer(expected=(Token("a", 0.5), Token("b", math.nan))).loss)
    assert Answer(expected=(Token("a", 0.0),)).loss == math.inf
