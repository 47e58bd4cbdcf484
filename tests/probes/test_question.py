"""A question is what the probe asks, and its judgement what the probe says."""

import math
from typing import Any

import pytest

from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.encoding import Encoder
from gcwm_viz.probes.generation import prompt_ids, request_tokens
from gcwm_viz.probes.question import Question
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, Style
from tests.probes.models import bpe_tokenizer, tiny_llama
from tests.probes.test_chat import chat_tokenizer

PROMPTS = PromptTask("p", "dev", ("the cat", "1 + 2 ="), (" sat", " 3"), style=Style(system="brief"))
LETTERS = ChoiceTask("c", "dev", ("the cat?", "a mat?"), (("sat", "hat"), ("mat", "at", "hat")), (1, 2))
TEXTS = ChoiceTask("c", "dev", LETTERS.questions, LETTERS.choices, LETTERS.answers, style=Style(scoring="text"))


@pytest.fixture(scope="module", params=["plain", "chat"])
def loaded(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    tokenizer = bpe_tokenizer() if request.param == "plain" else chat_tokenizer()
    model = tiny_llama(len(tokenizer))
    model.config.max_position_embeddings = 256  # in bytes almost, a chat with choices is long
    return model, tokenizer


@pytest.mark.parametrize("task", [PROMPTS, LETTERS, TEXTS], ids=["prompt", "letters", "texts"])
def test_an_example_is_judged_as_in_its_task(loaded: tuple[Any, Any], task: Any) -> None:
    model, tokenizer = loaded
    (values,) = BehaviourProbe(tokenizer, [task]).measure(model)
    requests = Encoder(tokenizer).requests(task)
    own = values.metrics["em" if isinstance(task, PromptTask) else "acc"]
    for example in (1, 2):
        question = Question.of(task, example)
        expected = requests[example - 1][0 if isinstance(task, PromptTask) else task.answers[example - 1]]
        assert question.ids(tokenizer) == expected[0]
        assert question.tokens(tokenizer) == len(expected[1])
        judged = question.judge(model, tokenizer)
        assert judged is not None
        assert judged.right == bool(own[example - 1])
        loss = float(values.metrics["nll"][example - 1]) * len(expected[1])
        assert -math.log(judged.probability) == pytest.approx(loss, rel=1e-5)
        if isinstance(task, PromptTask):
            tokens = request_tokens(
                model,
                tokenizer,
                Encoder(tokenizer).exchange(task.prompts[example - 1], task.answers[example - 1], task.style),
            )
            assert math.prod(token.probability for token in tokens) == pytest.approx(judged.probability, rel=1e-5)


def test_what_is_shown() -> None:
    assert (Question.of(PROMPTS, 2).prompt, Question.of(PROMPTS, 2).expected) == ("1 + 2 =", " 3")
    letters, texts = Question.of(LETTERS, 2), Question.of(TEXTS, 2)
    assert (letters.prompt, letters.expected) == ("a mat?\nA. mat\nB. at\nC. hat\nAnswer:", "C. hat")
    assert (texts.prompt, texts.expected) == ("a mat?", "hat")


def test_a_prompt_of_ones_own_is_not_judged(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    question = Question("the cat")
    assert question.ids(tokenizer) == prompt_ids(tokenizer, "the cat", Style())
    assert question.judge(model, tokenizer) is None
    assert (question.expected, question.tokens(tokenizer)) == ("", 0)


def test_logits_that_are_not_finite_are_not_judged() -> None:
    tokenizer: Any = bpe_tokenizer()
    model: Any = tiny_llama(len(tokenizer))
    model.lm_head.weight.data[7] = math.nan
    judged = Question.of(PROMPTS, 1).judge(model, tokenizer)
    assert judged is not None
    assert judged.right is None
    assert math.isnan(judged.probability)
