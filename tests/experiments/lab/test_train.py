import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import Qwen3ForCausalLM

from gcwm_viz.experiments.lab.model import (
    build_tokenizer,
    character_ids,
    copy_state,
    new_model,
    round_state,
    target_names,
)
from gcwm_viz.experiments.lab.train import CharacterCorpus, train_update
from tests.experiments.test_training import EXAMPLES, SETTINGS, SHAPE, generator


@pytest.fixture
def model() -> Qwen3ForCausalLM:
    return new_model(SHAPE, generator())


def update(model: Qwen3ForCausalLM, state: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    return train_update(model, state, CharacterCorpus(EXAMPLES), SETTINGS, generator(seed))


def test_tokenizer_agrees_with_the_fast_path_and_reads_back() -> None:
    tokenizer = build_tokenizer()
    text = "".join(chr(c) for c in range(32, 127))
    ids = tokenizer(text)["input_ids"]
    assert ids == [tokenizer.bos_token_id, *character_ids(text)]
    assert len(tokenizer) == 98
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_a_pair_is_prompt_answer_and_end() -> None:
    tokenizer = build_tokenizer()
    corpus = CharacterCorpus([("a=", "b")])
    assert corpus.ids.tolist() == [[*tokenizer("a=b")["input_ids"], tokenizer.eos_token_id]]


def test_a_mixture_draws_by_share_not_by_size() -> None:
    corpus = CharacterCorpus.mixture([(1.0, [("a=", "1")]), (3.0, [(f"b{i}=", "2") for i in range(9)])])
    ids, _ = corpus.sample(4000, generator())
    share = float((ids[:, 1] == character_ids("a")[0]).double().mean())
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)


def test_the_update_is_what_moved_and_only_targets_move(model: Qwen3ForCausalLM) -> None:
    start = copy_state(model)
    delta = update(model, start)
    assert sorted(delta) == sorted(target_names(start))
    assert len(delta) == 2 * 7
    for name, value in copy_state(model).items():
        if name in delta:
            assert_close(value, start[name] + delta[name])
            assert delta[name].abs().max() > 0
        else:
            assert torch.equal(value, start[name])


def test_same_generator_same_update(model: Qwen3ForCausalLM) -> None:
    start = copy_state(model)
    first, again, other = update(model, start), update(model, start), update(model, start, seed=2)
    name = next(iter(first))
    assert torch.equal(first[name], again[name])
    assert not torch.equal(first[name], other[name])


def test_rounding_is_what_a_half_file_gives(model: Qwen3ForCausalLM) -> None:
    state = round_state(copy_state(model))
    assert all(torch.equal(v, v.half().float()) and v.dtype == torch.float32 for v in state.values())
