import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from gcwm_viz.experiments.lab.model import (
    ModelShape,
    build_tokenizer,
    character_ids,
    copy_state,
    load_state,
    new_model,
    round_state,
    target_names,
)
from gcwm_viz.experiments.lab.train import IGNORED, Corpus, Hook, TrainSettings, answer_loss, train

SHAPE = ModelShape(hidden=32, intermediate=48, layers=2, heads=2, kv_heads=1, head_dim=16)
EXAMPLES = [(f"double {i}=", str(2 * i)) for i in range(12)]
SETTINGS = TrainSettings(steps=12, batch_size=8, lr=5e-3, warmup=2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model():
    return new_model(SHAPE, generator())


def run(model, state, *hooks, settings=SETTINGS, seed=1, **others):
    return train(model, state, Corpus(EXAMPLES), settings, generator(seed), hooks=hooks, **others)


def test_tokenizer_agrees_with_the_fast_path_and_reads_back():
    tokenizer = build_tokenizer()
    text = "".join(chr(c) for c in range(32, 127))
    ids = tokenizer(text)["input_ids"]
    assert ids == [tokenizer.bos_token_id, *character_ids(text)]
    assert len(tokenizer) == 98
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_the_update_is_what_moved_and_only_targets_move(model):
    start = copy_state(model)
    result = run(model, start)
    assert sorted(result.delta) == sorted(target_names(start))
    assert len(result.delta) == 2 * 7
    for name, value in copy_state(model).items():
        if name in result.delta:
            assert_close(value, start[name] + result.delta[name])
            assert result.delta[name].abs().max() > 0
        else:
            assert torch.equal(value, start[name])
    assert result.losses[-1] < result.losses[0]


def test_same_generator_same_update(model):
    start = copy_state(model)
    first, again, other = run(model, start), run(model, start), run(model, start, seed=2)
    name = next(iter(first.delta))
    assert torch.equal(first.delta[name], again.delta[name])
    assert not torch.equal(first.delta[name], other.delta[name])


def test_loss_is_on_the_answer_alone(model):
    ids, labels = Corpus(EXAMPLES[:3]).sample(5, generator())
    logs = model(input_ids=ids).logits.detach().double().log_softmax(-1)
    by_hand = [
        -float(logs[b, t - 1, ids[b, t]])
        for b in range(5)
        for t in range(ids.shape[1])
        if labels[b, t] != IGNORED and t >= ids[b].tolist().index(character_ids("=")[0]) + 1
    ]
    assert len(by_hand) == int((labels != IGNORED).sum())
    assert_close(answer_loss(model, ids, labels).item(), sum(by_hand) / len(by_hand), rtol=1e-5, atol=1e-5)


def test_a_mixture_draws_by_share_not_by_size():
    corpus = Corpus.mixture([(1.0, [("a=", "1")]), (3.0, [(f"b{i}=", "2") for i in range(9)])])
    ids, _ = corpus.sample(4000, generator())
    share = float((ids[:, 1] == character_ids("a")[0]).double().mean())
    assert abs(share - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)


class Anchor(Hook):
    """A quadratic pull to the start: the shape of EWC's term."""

    def __init__(self, strength):
        self.strength = strength
        self.terms, self.steps, self.events = [], [], []

    def start(self, model, trained):
        self.trained = trained
        self.anchor = {name: p.detach().clone() for name, p in trained.items()}
        self.events.append("start")

    def loss_term(self, model, step):
        term = self.strength * sum((p - self.anchor[name]).square().sum() for name, p in self.trained.items())
        self.terms.append(float(term.detach()))
        return term

    def after_step(self, model, step, loss):
        self.steps.append((step, loss))

    def finish(self, model):
        self.events.append("finish")


def size(delta):
    return math.sqrt(sum(float(d.square().sum()) for d in delta.values()))


def test_a_hook_can_add_to_the_loss(model):
    start = copy_state(model)
    free, anchor = run(model, start), Anchor(10.0)
    held = run(model, start, anchor)
    assert anchor.terms[0] == 0
    assert anchor.terms[-1] > 0
    assert size(held.delta) < 0.7 * size(free.delta)
    assert anchor.steps == list(enumerate(held.losses))
    assert anchor.events == ["start", "finish"]
    # The recorded loss is the task's: before anything has moved it does not know of the hook.
    assert held.losses[0] == free.losses[0]


def test_a_hook_can_change_the_weights(model):
    class Merge(Hook):
        def after_step(self, model, step, loss):
            if step == SETTINGS.steps - 1:
                load_state(model, start)

    start = copy_state(model)
    assert size(run(model, start, Merge()).delta) == 0


def test_learning_rate_warms_up_and_falls_to_zero():
    settings = TrainSettings(steps=100, lr=1.0, warmup=10)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates[-1] < 1e-3
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_rounding_is_what_a_half_file_gives(model):
    state = round_state(copy_state(model))
    assert all(torch.equal(v, v.half().float()) and v.dtype == torch.float32 for v in state.values())


@pytest.mark.parametrize("bad", [{"steps": 0}, {"steps": 1, "batch_size": 0}])
def test_bad_settings(bad):
    with pytest.raises(ValueError, match="at least 1"):
        TrainSettings(**bad)
