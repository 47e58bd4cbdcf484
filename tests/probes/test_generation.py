"""Greedy answers against transformers' own decoding, and their probabilities against the probe."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.bundle import locate
from gcwm_viz.experiments.lab.model import build_tokenizer
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.encoding import Encoder
from gcwm_viz.probes.generation import END, Token, closing_ids, greedy, prompt_ids, request_tokens, unknown_tokens
from gcwm_viz.probes.loading import load_model, load_tokenizer
from gcwm_viz.probes.tasks import PromptTask, Style, load_tasks
from tests.probes.models import bpe_tokenizer, tiny_llama
from tests.probes.test_chat import chat_tokenizer

PLAIN = Style()


@pytest.fixture(scope="module")
def lab() -> tuple[Any, Any]:
    base = CheckpointIndex.open(locate().base)
    return load_model(base, torch.float32), load_tokenizer(base)


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    tokenizer = bpe_tokenizer()
    return tiny_llama(len(tokenizer)), tokenizer


def said(tokens: list[Token]) -> str:
    return "".join(token.text for token in tokens if not token.closes)


def generated(model: Any, tokenizer: Any, ids: list[int], most: int) -> list[int]:
    stops = sorted(closing_ids(model, tokenizer))
    out = model.generate(
        input_ids=torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    return list(out[0, len(ids) :].tolist())


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("kind", ["lab", "tiny"])
def test_the_answer_is_that_of_transformers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str, cached: bool
) -> None:
    model, tokenizer = request.getfixturevalue(kind)
    prompts = ["max(77,46)=", "past pray=", "capital Chad=", "the cat", "x"]
    oracle = [generated(model, tokenizer, prompt_ids(tokenizer, prompt, PLAIN), 12) for prompt in prompts]
    if not cached:
        forward = type(model).forward

        def uncached(self: Any, input_ids: Any = None, use_cache: Any = None) -> Any:
            return forward(self, input_ids=input_ids, use_cache=False)

        monkeypatch.setattr(type(model), "forward", uncached)
    for prompt, ids in zip(prompts, oracle, strict=True):
        tokens = list(greedy(model, tokenizer, prompt_ids(tokenizer, prompt, PLAIN), 12))
        ended = ids[-1] in closing_ids(model, tokenizer)
        assert len(tokens) == len(ids)
        assert [token.closes for token in tokens] == [False] * (len(ids) - 1) + [ended]
        text = tokenizer.decode(ids[: len(ids) - ended], skip_special_tokens=False)
        assert said(tokens) + (tokens[-1].text.removesuffix(END) if ended else "") == text
        assert all(0 < token.probability <= 1 for token in tokens)
        assert not ended or tokens[-1].text.endswith(END)


def test_exact_match_is_what_greedy_decoding_writes(lab: tuple[Any, Any]) -> None:
    model, tokenizer = lab
    tasks = [task for task in load_tasks(locate().probes) if isinstance(task, PromptTask)]
    few = [PromptTask(t.name, t.split, t.prompts[:12], t.answers[:12], style=t.style) for t in tasks]
    matched = 0
    for task, values in zip(few, BehaviourProbe(tokenizer, few).measure(model), strict=True):
        for prompt, answer, exact in zip(task.prompts, task.answers, values.metrics["em"].tolist(), strict=True):
            tokens = list(greedy(model, tokenizer, prompt_ids(tokenizer, prompt, task.style), len(answer) + 1))
            assert (tokens[-1].closes and said(tokens) == answer) == bool(exact)
            matched += bool(exact)
    assert matched  # the base of the lab answers some by itself


@pytest.mark.parametrize("kind", ["lab", "tiny", "chat"])
def test_losses_of_the_answer_are_the_probes(request: pytest.FixtureRequest, kind: str) -> None:
    if kind == "chat":
        tokenizer: Any = chat_tokenizer()
        model: Any = tiny_llama(len(tokenizer))
    else:
        model, tokenizer = request.getfixturevalue(kind)
    task = PromptTask("t", "dev", ("max(77,46)=", "the cat", "1 + 2 ="), ("77", " sat", "3"))
    (values,) = BehaviourProbe(tokenizer, [task]).measure(model)
    for prompt, answer, nll in zip(task.prompts, task.answers, values.metrics["nll"].tolist(), strict=True):
        tokens = request_tokens(model, tokenizer, Encoder(tokenizer).exchange(prompt, answer, PLAIN))
        assert tokens[-1].closes
        assert said(tokens) == answer
        assert math.fsum(token.loss for token in tokens) / len(tokens) == pytest.approx(nll, rel=1e-5, abs=1e-6)


def test_the_greedy_answers_own_tokens_have_the_same_probabilities(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    tokens = list(greedy(model, tokenizer, prompt_ids(tokenizer, "the cat", PLAIN), 6))
    again = list(greedy(model, tokenizer, prompt_ids(tokenizer, "the cat", PLAIN), 6))
    assert tokens == again


def test_a_chat_ends_with_what_closes_a_message() -> None:
    tokenizer: Any = chat_tokenizer()
    model: Any = tiny_llama(len(tokenizer))
    closing = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        model.lm_head.weight[closing] *= 4
    ids = prompt_ids(tokenizer, "the cat", PLAIN)
    assert tokenizer.decode(ids).endswith("<|im_start|>assistant\n<think></think>")
    assert prompt_ids(tokenizer, "the cat", Style(chat=False)) == tokenizer("the cat")["input_ids"]
    ended = [list(greedy(model, tokenizer, prompt_ids(tokenizer, word, PLAIN), 8)) for word in ("cat", "a mat", "that")]
    assert any(tokens[-1].closes for tokens in ended)
    broken = chat_tokenizer("{{ raise_exception('no') }}")
    assert closing_ids(model, broken) == {1}
    with pytest.raises(InputError, match="chat template"):
        prompt_ids(broken, "the cat", PLAIN)


class Scripted:
    """A model that writes given tokens, one after another."""

    device = torch.device("cpu")

    def __init__(self, script: list[int], vocabulary: int, *, prompt: int = 1) -> None:
        self.script, self.vocabulary, self.prompt = script, vocabulary, prompt

    def forward(self, input_ids: Any = None, use_cache: Any = None) -> Any:
        logits = torch.zeros(1, input_ids.shape[1], self.vocabulary)
        logits[0, -1, self.script[input_ids.shape[1] - self.prompt]] = 5.0
        return type("Out", (), {"logits": logits})

    __call__ = forward


@pytest.mark.parametrize("text", ["a中b", "🙂🙂", "é\xa0→", "日本"])
def test_a_character_of_several_tokens_shows_with_its_last(text: str) -> None:
    tokenizer = bpe_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens = list(greedy(Scripted([*ids, 1], len(tokenizer)), tokenizer, [0], 99))
    assert said(tokens) == text
    assert len(tokens) == len(ids) + 1
    assert tokens[-1] == Token(END, tokens[-1].probability, closes=True)
    assert not any("\ufffd" in token.text for token in tokens)
    cut = list(greedy(Scripted(ids, len(tokenizer)), tokenizer, [0], len(ids) - 1))
    assert said(cut) == tokenizer.decode(ids[:-1])  # the bytes of a character that never ends are shown at the end


def test_bytes_that_are_no_character_are_all_shown() -> None:
    tokenizer = bpe_tokenizer()
    bad = tokenizer("é中", add_special_tokens=False)["input_ids"]
    ids = [bad[0], bad[0], bad[-1], *tokenizer("cat", add_special_tokens=False)["input_ids"], bad[0]]
    tokens = list(greedy(Scripted([*ids, 1], len(tokenizer)), tokenizer, [0], 99))
    assert "".join(token.text for token in tokens) == f"{tokenizer.decode(ids)}{END}"


def test_what_cannot_be_answered_is_said(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    with pytest.raises(InputError, match="no tokens"):
        greedy(model, tokenizer, [], 4)
    with pytest.raises(InputError, match=r"70 tokens, expected at most 63"):
        greedy(model, tokenizer, [5] * 70, 4)
    assert len(list(greedy(model, tokenizer, [5] * 61, 10))) <= 3
    with pytest.raises(InputError, match="at least one token each"):
        request_tokens(model, bpe_tokenizer(opening=False), ([], [5]))
    with pytest.raises(InputError, match="expected at most 64"):
        request_tokens(model, tokenizer, Encoder(tokenizer).exchange("cat " * 80, "cat", PLAIN))


def test_logits_that_are_not_finite_are_said_not_decoded(tmp_path: Path) -> None:
    tokenizer = bpe_tokenizer()
    model = tiny_llama(len(tokenizer))
    with torch.no_grad():
        model.lm_head.weight[7] = math.nan
    with pytest.raises(InputError, match="token 1 of the answer are not finite"):
        list(greedy(model, tokenizer, [0, 5], 4))
    assert all(
        math.isnan(token.probability)
        for token in request_tokens(model, tokenizer, Encoder(tokenizer).exchange("the", " cat", PLAIN))
    )


def test_text_without_a_token_is_counted() -> None:
    """The lab's characters are printable ASCII; others become padding."""
    tokenizer = build_tokenizer()
    assert unknown_tokens(tokenizer, prompt_ids(tokenizer, "past über=", PLAIN)) == 1
    assert unknown_tokens(tokenizer, prompt_ids(tokenizer, "past pray=", PLAIN)) == 0
    assert unknown_tokens(bpe_tokenizer(), prompt_ids(bpe_tokenizer(), "über 日本", PLAIN)) == 0
