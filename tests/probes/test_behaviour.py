"""Scores against the slow and obvious way: one example at a time, no padding, real greedy decoding."""

import math
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.bundle import locate
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.encoding import encode_prompt
from gcwm_viz.probes.tasks import PromptTask, load_tasks
from tests.probes.models import TEXT, bpe_tokenizer, tiny_lab, tiny_llama
from tests.rounding import rounding


def greedy(model: Any, tokenizer: PreTrainedTokenizerBase, prompt: str, limit: int) -> list[int]:
    """The new tokens of greedy decoding, EOS and all."""
    ids = torch.tensor([encode_prompt(tokenizer, prompt)])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        num_beams=1,
        max_new_tokens=limit,
        pad_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return list(out[0, ids.shape[1] :].tolist())


def one_by_one(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: PromptTask
) -> tuple[list[float], list[float]]:
    """(exact, nll) lists from unpadded single passes and greedy decoding."""
    exact, nll = [], []
    for prompt, answer in zip(task.prompts, task.answers, strict=True):
        start = encode_prompt(tokenizer, prompt)
        end = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        exact.append(float(greedy(model, tokenizer, prompt, len(end)) == end))
        with torch.no_grad():
            logs = model(input_ids=torch.tensor([start + end])).logits[0].double().log_softmax(-1)
        nll.append(-sum(float(logs[len(start) - 1 + k, token]) for k, token in enumerate(end)) / len(end))
    return exact, nll


def own_answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> PromptTask:
    """A task of which the model gets some right: its own greedy output where that ends, else something else."""
    answers: list[str] = []
    for i, prompt in enumerate(prompts):
        tokens = greedy(model, tokenizer, prompt, 6)
        text = str(tokenizer.decode(tokens[:-1])) if tokens[-1] == tokenizer.eos_token_id else ""
        again = tokenizer(text, add_special_tokens=False)["input_ids"]
        answers.append(text if i % 3 and text and again == tokens[:-1] else "at" * (1 + i % 3))
    return PromptTask("own", "test", tuple(prompts), tuple(answers))


@pytest.fixture(scope="module")
def llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    tokenizer = bpe_tokenizer()
    model = tiny_llama(len(tokenizer))
    # A random model hardly ever writes EOS; lift it so that some answers end.
    with torch.no_grad():
        model.lm_head.weight[1] *= 3
    return model, tokenizer


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_llama_equals_one_by_one(llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast], batch_size: int) -> None:
    model, tokenizer = llama
    prompts = [text[: 2 + 3 * k] for text in TEXT for k in range(5)]
    task = own_answers(model, tokenizer, prompts)
    exact, nll = one_by_one(model, tokenizer, task)
    assert 0 < sum(exact) < len(exact)
    (got,) = BehaviourProbe(tokenizer, [task], batch_size).measure(model)
    assert got.metrics["em"].tolist() == exact
    torch.testing.assert_close(got.metrics["nll"], torch.tensor(nll, dtype=torch.float64), rtol=1e-5, atol=1e-5)
    em, loss = BehaviourProbe(tokenizer, [task], batch_size).score(model)
    n = len(exact)
    assert em == {"task": "own", "split": "test", "metric": "em", "value": sum(exact) / n, "se": em["se"], "n": n}
    p = sum(exact) / n
    assert em["se"] == pytest.approx(math.sqrt(p * (1 - p) / (n - 1)))
    assert loss["value"] == pytest.approx(sum(nll) / n, rel=1e-5)


@pytest.mark.parametrize("name", ["base", "past", "index"])
def test_lab_equals_one_by_one(name: str) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    bundle = locate()
    model: Any = AutoModelForCausalLM.from_pretrained(bundle.base, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(bundle.base)
    if name != "base":
        delta = load_file(bundle.updates[name] / "update.safetensors")
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if key in delta:
                    parameter += delta[key].float()
    whole: list[Any] = [t for t in load_tasks(bundle.probes) if t.split == "test"]
    tasks = [PromptTask(t.name, t.split, t.prompts[:6], t.answers[:6]) for t in whole]
    for got, task in zip(BehaviourProbe(tokenizer, tasks).measure(model), tasks, strict=True):
        exact, nll = one_by_one(model, tokenizer, task)
        assert got.metrics["em"].tolist() == exact
        expected = torch.tensor(nll, dtype=torch.float64)
        torch.testing.assert_close(got.metrics["nll"], expected, rtol=1e-4, atol=1e-5)


def test_a_large_vocabulary_costs_no_digits() -> None:
    """152k tokens, as Qwen has: the NLL is that of float64 on the same float32 logits."""
    tokenizer, vocabulary, seen = bpe_tokenizer(), 152_064, []
    model = tiny_llama(vocabulary)
    model.register_forward_hook(lambda _module, _inputs, output: seen.append(output.logits.double()))
    probe = BehaviourProbe(tokenizer, [PromptTask("t", "dev", tuple(TEXT), ("at", "the mat", "a hat", "3", "cat"))])
    (got,), (batch,), (logits,) = probe.measure(model), probe.batches, seen
    labels = batch.labels_bl[:, -batch.tail :]
    losses = -logits.log_softmax(-1)[:, :-1].gather(2, labels.clamp_min(0)[..., None])[..., 0]
    expected = losses.where(labels >= 0, 0.0).sum(1) / (labels >= 0).sum(1)
    # Of the sum of exponentials as by pairwise addition, of its logarithm as of one number.
    size = math.log2(vocabulary) + float(logits.logsumexp(-1).max())
    error = (got.metrics["nll"][batch.rows] - expected).abs()
    assert float(error.max()) <= rounding(1, torch.float32) * size


def test_prompt_and_answer_are_tokenised_apart() -> None:
    tokenizer = bpe_tokenizer()
    joined = tokenizer("the cat", add_special_tokens=False)["input_ids"]
    probe = BehaviourProbe(tokenizer, [PromptTask("t", "dev", ("the c",), ("at",))])
    row = probe.batches[0].ids_bl[0].tolist()
    assert row[0] == 0
    assert row[-1] == 1
    assert row[1:-1] != joined
    assert row[1:] == [
        *tokenizer("the c", add_special_tokens=False)["input_ids"],
        *tokenizer("at", add_special_tokens=False)["input_ids"],
        1,
    ]


def test_a_tokenizer_that_closes_prompts_is_opened_again() -> None:
    plain, closing = bpe_tokenizer(), bpe_tokenizer(closing=True)
    assert closing("the cat")["input_ids"][-1] == 1
    assert encode_prompt(closing, "the cat") == encode_prompt(plain, "the cat")


def test_without_eos_the_answer_alone_counts() -> None:
    tokenizer = bpe_tokenizer(eos=False)
    probe = BehaviourProbe(tokenizer, [PromptTask("t", "dev", ("the c",), ("at",))])
    labels = probe.batches[0].labels_bl[0]
    assert labels[labels >= 0].tolist() == tokenizer("at", add_special_tokens=False)["input_ids"]


def test_broken_weights_give_nan_not_zero(llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = tiny_lab()
    task = PromptTask("t", "dev", ("ab", "abcd"), ("c", "d"))
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = math.nan
    for row in BehaviourProbe(tokenizer, [task]).score(model):
        assert math.isnan(row["value"])
        assert math.isnan(row["se"])
        assert row["n"] == 2


def test_one_example_has_no_standard_error() -> None:
    model, tokenizer = tiny_lab()
    rows = BehaviourProbe(tokenizer, [PromptTask("t", "dev", ("ab",), ("c",))]).score(model)
    assert all(math.isnan(row["se"]) and math.isfinite(row["value"]) for row in rows)


def test_training_mode_and_weights_are_left_alone() -> None:
    model, tokenizer = tiny_lab()
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    BehaviourProbe(tokenizer, [PromptTask("t", "dev", ("ab",), ("c",))]).score(model)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_refused_inputs(llama: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = llama
    with pytest.raises(InputError, match="batch_size"):
        BehaviourProbe(tokenizer, [], 0)
    with pytest.raises(InputError, match="at most 64 tokens"):
        BehaviourProbe(tokenizer, [PromptTask("t", "dev", ("x y " * 60,), ("c",))]).score(model)
    bare = bpe_tokenizer(opening=False)
    with pytest.raises(InputError, match=r"task 't' \(dev\), example 1: expected at least one token"):
        BehaviourProbe(bare, [PromptTask("t", "dev", ("",), ("c",))])
