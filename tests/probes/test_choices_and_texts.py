"""Choices and texts against the slow and obvious way: one continuation at a time, no padding, no shared passes."""

import math
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from gcwm_viz.errors import InputError
from gcwm_viz.probes import batches
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.description import Style
from gcwm_viz.probes.encoding import encode_prompt, listed
from gcwm_viz.probes.tasks import ChoiceTask, PromptTask, TextTask
from gcwm_viz.probes.values import ratio_values
from tests.probes.models import TEXT, bpe_tokenizer, tiny_lab, tiny_llama
from tests.rounding import rounding

QUESTIONS = ("the cat", "1 + 2 =", "the capital of the land is ")
CHOICES = (("sat", "a mat and a hat", "the"), ("3", "12"), ("a hat", "land", "at", "mat"))
LETTERS = Style(scoring="letter")
TEXTS = Style(scoring="text")


@pytest.fixture(scope="module")
def llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = bpe_tokenizer()
    return tiny_llama(len(tokenizer)), tokenizer


def log_probabilities(model: PreTrainedModel, start: list[int], end: list[int]) -> list[float]:
    """log p of each token of ``end`` after ``start``."""
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([start + end])).logits[0].double().log_softmax(-1)
    return [float(logs[len(start) - 1 + place, token]) for place, token in enumerate(end)]


def continuations(
    tokenizer: PreTrainedTokenizerFast, question: str, choices: tuple[str, ...], style: Style
) -> list[tuple[list[int], list[int]]]:
    """(start, end) of each choice, spelled out by hand."""
    if style.scoring == "letter":
        question = listed(question, choices)
        choices = tuple("ABCDEFG"[: len(choices)])
    start = encode_prompt(tokenizer, question.rstrip())
    return [(start, encode_prompt(tokenizer, f"{question.rstrip()} {choice}")[len(start) :]) for choice in choices]


@pytest.mark.parametrize("style", [LETTERS, TEXTS], ids=["letter", "text"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_choices_equal_one_at_a_time(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast], style: Style, batch_size: int
) -> None:
    model, tokenizer = llama
    answers = (1, 0, 3)
    task = ChoiceTask("c", "test", QUESTIONS, CHOICES, answers, style=style)
    right, losses = [], []
    for question, choices, answer in zip(QUESTIONS, CHOICES, answers, strict=True):
        logs = [log_probabilities(model, *one) for one in continuations(tokenizer, question, choices, style)]
        if style.scoring == "letter":
            scores = [sum(log) for log in logs]
        else:
            scores = [sum(log) / len(choice) for log, choice in zip(logs, choices, strict=True)]
        right.append(float(max(range(len(scores)), key=scores.__getitem__) == answer))
        losses.append(-sum(logs[answer]) / len(logs[answer]))
    (found,) = BehaviourProbe(tokenizer, [task], batch_size).measure(model)
    assert found.metrics["acc"].tolist() == right
    torch.testing.assert_close(found.metrics["nll"], torch.tensor(losses, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_letters_share_one_pass_and_texts_do_not(llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    _, tokenizer = llama
    by_letter = BehaviourProbe(tokenizer, [ChoiceTask("c", "test", QUESTIONS, CHOICES, (0, 0, 0), style=LETTERS)])
    assert sum(len(batch.rows) for batch in by_letter.batches) == len(QUESTIONS)
    assert sum(len(batch.others) for batch in by_letter.batches) == sum(len(choices) - 1 for choices in CHOICES)
    by_text = BehaviourProbe(tokenizer, [ChoiceTask("c", "test", QUESTIONS, CHOICES, (0, 0, 0), style=TEXTS)])
    assert sum(len(batch.rows) for batch in by_text.batches) > len(QUESTIONS)


def test_the_likeliest_choice_is_right_wherever_it_stands(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast],
) -> None:
    """Accuracy over all possible answers of a question is 1 / choices, for each of them is right once."""
    model, tokenizer = llama
    tasks = [ChoiceTask(f"t{k}", "test", QUESTIONS[:1], CHOICES[:1], (k,), style=TEXTS) for k in range(3)]
    values = [row["value"] for row in BehaviourProbe(tokenizer, tasks).score(model) if row["metric"] == "acc"]
    assert sorted(values) == [0.0, 0.0, 1.0]


def test_the_listed_question_is_what_the_page_says() -> None:
    assert listed("Which?", ("one", "two")) == "Which?\nA. one\nB. two\nAnswer:"


@pytest.mark.parametrize("opening", [True, False])
def test_perplexity_is_that_of_all_tokens(opening: bool) -> None:
    tokenizer = bpe_tokenizer(opening=opening)
    model = tiny_llama(len(tokenizer))
    total, count = 0.0, 0
    for text in TEXT:
        ids = encode_prompt(tokenizer, text)
        logs = log_probabilities(model, ids[:1], ids[1:])
        total, count = total - sum(logs), count + len(logs)
    perplexity, loss = BehaviourProbe(tokenizer, [TextTask("t", "test", tuple(TEXT))]).score(model)
    assert (perplexity["metric"], loss["metric"]) == ("ppl", "nll")
    # Padded batches and single rows go through a single-precision model 32 wide; a perplexity moves by the NLL's error.
    bound = rounding(32, torch.float32)
    assert loss["value"] == pytest.approx(total / count, rel=bound)
    assert perplexity["value"] == pytest.approx(math.exp(total / count), rel=bound * total / count)
    assert perplexity["se"] == pytest.approx(perplexity["value"] * loss["se"], rel=1e-9)
    assert perplexity["n"] == loss["n"] == len(TEXT)


def test_the_error_of_a_ratio_is_that_of_its_repetitions() -> None:
    """Oracle: the spread of Σ totals / Σ counts over bootstrap samples of the examples."""
    rng = torch.Generator().manual_seed(0)
    counts = torch.randint(5, 60, (400,), generator=rng).double()
    totals = counts * (2 + 0.5 * torch.randn(400, generator=rng).double())
    values = ratio_values(totals, counts)
    assert float(values.mean()) == pytest.approx(float(totals.sum() / counts.sum()), rel=2 * rounding(400), abs=0)
    picks = torch.randint(0, 400, (4000, 400), generator=rng)
    ratios = totals[picks].sum(1) / counts[picks].sum(1)
    assert float(values.std()) / 20 == pytest.approx(float(ratios.std()), rel=0.05)


def test_kinds_together_score_as_they_do_alone(llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = llama
    tasks: list[Any] = [
        TextTask("t", "dev", tuple(TEXT)),
        PromptTask("p", "dev", ("the cat", "1 + 2 ="), (" sat", " 3")),
        ChoiceTask("c", "test", QUESTIONS, CHOICES, (0, 1, 2), style=LETTERS),
        ChoiceTask("d", "test", QUESTIONS, CHOICES, (0, 1, 2), style=TEXTS),
    ]
    together = BehaviourProbe(tokenizer, tasks).score(model)
    alone = [row for task in tasks for row in BehaviourProbe(tokenizer, [task]).score(model)]
    assert [row["metric"] for row in together] == ["ppl", "nll", "em", "nll", "acc", "nll", "acc", "nll"]
    for one, other in zip(together, alone, strict=True):
        assert {k: v for k, v in one.items() if k not in ("value", "se")} == {
            k: v for k, v in other.items() if k not in ("value", "se")
        }
        assert one["value"] == pytest.approx(other["value"], rel=1e-5)


def test_batches_stay_within_their_bounds(
    llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = llama
    task = TextTask("t", "dev", tuple(text * 2 for text in TEXT))
    expected = BehaviourProbe(tokenizer, [task]).score(model)
    monkeypatch.setattr(batches, "MAX_LOGITS", 40 * len(tokenizer))
    probe = BehaviourProbe(tokenizer, [task])
    assert len(probe.batches) > 1
    assert all(len(b.rows) == 1 or len(b.rows) * (b.tail + 1) <= 40 for b in probe.batches)
    assert probe.score(model)[0]["value"] == pytest.approx(expected[0]["value"], rel=1e-5)


def test_broken_weights_give_nan_not_a_choice() -> None:
    model, tokenizer = tiny_lab()
    tasks: list[Any] = [
        ChoiceTask("c", "dev", ("ab", "cd"), (("x", "y"), ("x", "y")), (0, 1), style=TEXTS),
        ChoiceTask("l", "dev", ("ab", "cd"), (("x", "y"), ("x", "y")), (0, 1), style=LETTERS),
        TextTask("t", "dev", ("abcd", "ef")),
    ]
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan
    rows = BehaviourProbe(tokenizer, tasks).score(model)
    assert len(rows) == 6
    assert all(math.isnan(row["value"]) and row["n"] == 2 for row in rows)


def test_a_text_of_one_token_is_named() -> None:
    tokenizer = bpe_tokenizer(opening=False)
    with pytest.raises(InputError, match=r"task 't' \(dev\), example 2: expected at least one token"):
        BehaviourProbe(tokenizer, [TextTask("t", "dev", ("the cat", "t"))])
