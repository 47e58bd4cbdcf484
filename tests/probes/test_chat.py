"""Prompts through a chat template: what a model trained on the template sees."""

from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from gcwm_viz.errors import InputError
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.encoding import Encoder
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, Style, TextTask
from tests.probes.models import bpe_tokenizer, tiny_llama

TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nhelp<|im_end|>\\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think></think>' }}{% endif %}{% endif %}"
)


def chat_tokenizer(template: str = TEMPLATE) -> PreTrainedTokenizerFast:
    tokenizer = bpe_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return chat_tokenizer()


def ids(tokenizer: PreTrainedTokenizerFast, text: str | list[str]) -> Any:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_prompt_is_the_users_message_and_the_answer_the_assistants(tokenizer: PreTrainedTokenizerFast) -> None:
    start, end = Encoder(tokenizer).exchange("the cat", "sat", Style())
    said = "<|im_start|>system\nhelp<|im_end|>\n<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n"
    assert start == ids(tokenizer, f"{said}<think></think>")
    # The template closes a message with <|im_end|>, not with the tokenizer's EOS.
    assert end == [*ids(tokenizer, "sat"), tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert tokenizer.eos_token_id not in end


def test_a_system_message_takes_the_place_of_the_templates_own(tokenizer: PreTrainedTokenizerFast) -> None:
    text = Encoder(tokenizer).chat("the cat", Style(system="be brief"))
    assert text.startswith("<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nthe cat")
    assert "help" not in text


def test_a_template_without_a_closing_token_is_closed_by_eos() -> None:
    plain = chat_tokenizer("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}")
    _, end = Encoder(plain).exchange("the cat", "sat", Style())
    assert end == [*ids(plain, "sat"), plain.eos_token_id]


@pytest.mark.parametrize("scoring", ["letter", "text"])
def test_choices_answer_in_the_chat_without_a_space(tokenizer: PreTrainedTokenizerFast, scoring: str) -> None:
    task = ChoiceTask("c", "dev", ("the cat",), (("sat", "hat"),), (0,), style=Style(scoring=scoring))
    ((first, second),) = Encoder(tokenizer).requests(task)
    expected = ("A", "B") if scoring == "letter" else ("sat", "hat")
    assert [tokenizer.decode(end) for _, end in (first, second)] == list(expected)
    asked = str(tokenizer.decode(first[0]))
    assert ("A. sat\nB. hat\nAnswer:" in asked) == (scoring == "letter")
    assert asked.endswith("<|im_start|>assistant\n<think></think>")


def test_the_template_can_be_left_out_and_texts_never_take_it(tokenizer: PreTrainedTokenizerFast) -> None:
    bare = bpe_tokenizer()
    tasks: list[Any] = [
        PromptTask("p", "dev", ("the cat",), (" sat",), style=Style(chat=False)),
        ChoiceTask("c", "dev", ("the cat",), (("sat", "hat"),), (0,), style=Style(chat=False)),
        TextTask("t", "dev", ("the cat sat",)),
    ]
    for task in tasks:
        assert Encoder(tokenizer).requests(task) == Encoder(bare).requests(task)


def test_a_chat_tokenizer_scores_other_tokens_than_a_plain_one(tokenizer: PreTrainedTokenizerFast) -> None:
    model: Any = tiny_llama(len(tokenizer))
    tasks = [
        PromptTask("p", "dev", ("the cat", "1 + 2 ="), ("sat", "3"), style=Style(chat=chat)) for chat in (True, False)
    ]
    chat, plain = (BehaviourProbe(tokenizer, [task]).score(model)[1]["value"] for task in tasks)
    assert chat != pytest.approx(plain, rel=1e-3)


def test_greedy_decoding_in_the_chat_is_what_exact_match_says(tokenizer: PreTrainedTokenizerFast) -> None:
    model: Any = tiny_llama(len(tokenizer))
    closing = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        model.lm_head.weight[closing] *= 4
    encoder = Encoder(tokenizer)
    matched = 0
    for prompt in ("the cat", "1 + 2 =", "a mat", "that hat", "land", "the", "of a"):
        start, _ = encoder.exchange(prompt, "x", Style())
        out = model.generate(
            input_ids=torch.tensor([start]), do_sample=False, max_new_tokens=4, eos_token_id=closing, pad_token_id=1
        )[0, len(start) :].tolist()
        if out[-1] != closing or len(out) < 2 or ids(tokenizer, tokenizer.decode(out[:-1])) != out[:-1]:
            continue
        answer = str(tokenizer.decode(out[:-1]))
        task = PromptTask("p", "dev", (prompt, prompt), (answer, answer + " cat"))
        (values,) = BehaviourProbe(tokenizer, [task]).measure(model)
        assert values.metrics["em"].tolist() == [1.0, 0.0]
        matched += 1
    assert matched


def test_a_template_that_fails_is_named() -> None:
    broken = chat_tokenizer("{{ raise_exception('only pairs') }}")
    with pytest.raises(InputError, match=r"chat template .* fails \(TemplateError: only pairs\); .*\"chat\": false"):
        BehaviourProbe(broken, [PromptTask("p", "dev", ("the cat",), ("sat",))])


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% for i in range(10**9) %}{{ i }}{% endfor %}"]
)
def test_a_hostile_template_is_held_in_the_sandbox(template: str) -> None:
    with pytest.raises(InputError, match="chat template of the tokenizer fails"):
        BehaviourProbe(chat_tokenizer(template), [PromptTask("p", "dev", ("the cat",), ("sat",))])
