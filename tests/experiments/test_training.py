"""The loop on a small model: what moves, whose loss it is, what hooks may do; and the loss against its formula."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import Qwen3ForCausalLM

from gcwm_viz.errors import InputError
from gcwm_viz.experiments.corpus import IGNORED
from gcwm_viz.experiments.lab.model import ModelShape, character_ids, copy_state, load_state, new_model
from gcwm_viz.experiments.lab.train import CharacterCorpus
from gcwm_viz.experiments.training import Hook, TrainSettings, answer_loss, train

SHAPE = ModelShape(hidden=32, intermediate=48, layers=2, heads=2, kv_heads=1, head_dim=16)
EXAMPLES = [(f"double {i}=", str(2 * i)) for i in range(12)]
SETTINGS = TrainSettings(steps=12, batch_size=8, lr=5e-3, warmup=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model() -> Qwen3ForCausalLM:
    return new_model(SHAPE, generator())


def run(
    model: Qwen3ForCausalLM, *hooks: Any, settings: TrainSettings = SETTINGS, seed: int = 1, **others: Any
) -> list[float]:
    return train(
        model,
        dict(model.named_parameters()),
        CharacterCorpus(EXAMPLES),
        settings,
        generator(seed),
        hooks=hooks,
        **others,
    )


def change(model: Qwen3ForCausalLM, start: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float((p.detach() - start[name]).square().sum()) for name, p in model.named_parameters()))


def test_only_what_is_named_moves_and_the_loss_falls(model: Qwen3ForCausalLM) -> None:
    start = copy_state(model)
    trained = {n: p for n, p in model.named_parameters() if n.endswith("q_proj.weight")}
    losses = train(model, trained, CharacterCorpus(EXAMPLES), SETTINGS, generator(1))
    assert {n for n, p in model.named_parameters() if not torch.equal(p, start[n])} == set(trained)
    assert len(losses) == SETTINGS.steps
    assert losses[-1] < losses[0]
    assert not model.training


def test_loss_is_on_the_answer_alone(model: Qwen3ForCausalLM) -> None:
    ids, labels = CharacterCorpus(EXAMPLES[:3]).sample(5, generator())
    logs = model(input_ids=ids).logits.detach().double().log_softmax(-1)
    by_hand = [
        -float(logs[b, t - 1, ids[b, t]])
        for b in range(5)
        for t in range(ids.shape[1])
        if labels[b, t] != IGNORED and t >= ids[b].tolist().index(character_ids("=")[0]) + 1
    ]
    assert len(by_hand) == int((labels != IGNORED).sum())
    for options, expected in (
        ({}, sum(by_hand) / len(by_hand)),
        ({"labelled_only": True}, sum(by_hand) / len(by_hand)),
        ({"reduction": "sum"}, sum(by_hand)),
    ):
        assert_close(answer_loss(model, ids, labels, **options).item(), expected, rtol=1e-5, atol=1e-5)


def test_a_loss_that_is_not_finite_ends_the_training(model: Qwen3ForCausalLM) -> None:
    with torch.no_grad():
        next(model.parameters())[:] = math.nan
    with pytest.raises(InputError, match="diverged at step 1: expected a finite loss, found nan"):
        run(model)


def test_training_can_stop_within_its_schedule(model: Qwen3ForCausalLM) -> None:
    start = copy_state(model)
    whole = run(model)
    load_state(model, start)
    assert run(model, stop=5) == whole[:5]
    load_state(model, start)
    assert run(model, stop=50) == whole


class Anchor(Hook):
    """A quadratic pull to the start: the shape of EWC's term."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.terms: list[float] = []
        self.steps: list[int] = []

    def start(self, trained: Mapping[str, torch.nn.Parameter]) -> None:
        self.trained = trained
        self.anchor = {name: p.detach().clone() for name, p in trained.items()}

    def loss_term(self, model: torch.nn.Module) -> Tensor:
        pull = sum((p - self.anchor[name]).square().sum() for name, p in self.trained.items())
        term = torch.as_tensor(self.strength * pull)
        self.terms.append(float(term.detach()))
        return term

    def after_step(self, model: torch.nn.Module, step: int) -> None:
        self.steps.append(step)


def test_a_hook_can_add_to_the_loss(model: Qwen3ForCausalLM) -> None:
    start = copy_state(model)
    free = run(model)
    distance = change(model, start)
    load_state(model, start)
    anchor = Anchor(10.0)
    anchored = run(model, anchor)
    assert anchor.terms[0] == 0
    assert anchor.terms[-1] > 0
    assert change(model, start) < 0.7 * distance
    assert anchor.steps == list(range(SETTINGS.steps))
    # The recorded loss is the task's: before anything has moved it does not know of the hook.
    assert anchored[0] == free[0]


def test_a_hook_can_change_the_weights(model: Qwen3ForCausalLM) -> None:
    class Merge(Hook):
        def after_step(self, model: torch.nn.Module, step: int) -> None:
            if step == SETTINGS.steps - 1:
                load_state(model, start)

    start = copy_state(model)
    run(model, Merge())
    assert change(model, start) == 0


def test_learning_rate_warms_up_and_falls_to_zero() -> None:
    settings = TrainSettings(steps=100, lr=1.0, warmup=10)
    rates = [settings.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1.0
    assert rates[-1] < 1e-3
    assert all(a >= b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize("bad", [{"steps": 0}, {"steps": 1, "batch_size": 0}])
def test_bad_settings(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TrainSettings(**bad)
