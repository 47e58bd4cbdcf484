"""The gradient of every coefficient against finite differences of independent scores, dense and in factors."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.calibration.blend import BlendLoss, present, read_sources
from gcwm_viz.calibration.coefficients import Coefficients, combined
from gcwm_viz.calibration.sample import Sample, draw
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.encoding import encode_prompt
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.loss import TaskEntropy
from gcwm_viz.probes.tasks import PromptTask, load_split
from tests.attribution.models import CPU
from tests.factories import generator


def blend(
    live: LiveModel, per: str = "matrix", loss: str = "nll", *, full: bool = False, recompute: bool = False
) -> tuple[BlendLoss, Coefficients, Sample]:
    sources = read_sources(live)
    if full:
        sources = [[None if update is None else dense(update) for update in own] for own in sources]
    settings = CalibrationSettings(per=per)
    coefficients = Coefficients.of(live.store.keys, present(sources, settings), per)
    sample = draw(load_split(live.store.file.probes.path, "dev"), 0.5, None, 0)
    return BlendLoss(live, sources, coefficients, sample, loss, recompute=recompute), coefficients, sample


def nll(live: LiveModel, sample: Sample) -> float:
    """The mean over tasks of the probes' own nll at the model's present weights."""
    values = BehaviourProbe(live.tokenizer, sample.fitted).measure(live.model)
    return sum(float(task.metrics["nll"].mean()) for task in values) / len(values)


def entropy(live: LiveModel, sample: Sample) -> float:
    losses = [TaskEntropy(live.tokenizer, task) for task in sample.fitted]
    return sum(float(part.detach()) for loss in losses for part in loss.parts(live.model, CPU)) / len(losses)


@pytest.mark.parametrize("run", ["dense_run", "adapter_run"])
@pytest.mark.parametrize(("per", "loss"), [("matrix", "nll"), ("layer", "nll"), ("model", "nll"), ("model", "entropy")])
def test_the_gradient_is_that_of_finite_differences(
    run: str, per: str, loss: str, request: pytest.FixtureRequest
) -> None:
    live = LiveModel.open(request.getfixturevalue(run), CPU)
    objective, coefficients, sample = blend(live, per, loss)
    sources = read_sources(live)
    values = coefficients.start_n + 0.1 * torch.randn(len(coefficients.start_n), generator=generator(1)).double()
    value, gradient = objective.fitted(values)

    def at(values_n: torch.Tensor) -> float:
        factors = coefficients.factors(values_n).T.tolist()
        by_matrix = zip(zip(*sources, strict=True), factors, strict=True)
        live.set_updates([combined(own, each) for own, each in by_matrix])
        return nll(live, sample) if loss == "nll" else entropy(live, sample)

    assert value == pytest.approx(at(values), rel=1e-5)  # float32 sums of some tens of terms
    steepest = gradient.abs().argsort(descending=True)[:4].tolist()
    for n in {*steepest, 0, len(values) - 1}:
        width = torch.zeros_like(values)
        width[n] = 0.01
        difference = (at(values + width) - at(values - width)) / 0.02
        # Losses of some 5 nats in float32 over a width of 0.02, and the third derivative times its square.
        assert float(gradient[n]) == pytest.approx(difference, rel=5e-3, abs=1e-3), n


def test_adapters_and_their_products_have_the_same_loss_and_gradient(adapter_run: Path) -> None:
    live = LiveModel.open(adapter_run, CPU)
    thin, coefficients, _ = blend(live)
    assert all(isinstance(update, LowRank) for own in read_sources(live) for update in own if update is not None)
    values = coefficients.start_n + 0.1 * torch.randn(len(coefficients.start_n), generator=generator(2)).double()
    loss, gradient = thin.fitted(values)
    other, expected = blend(live, full=True)[0].fitted(values)
    assert loss == pytest.approx(other, rel=1e-5)
    # Two orders of summation in float32 under a network's condition.
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4)


def test_no_factor_is_multiplied_out_for_the_gradient(adapter_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveModel.open(adapter_run, CPU)
    objective, coefficients, _ = blend(live)
    set_updates = live.set_updates
    formed: list[str] = []
    inside = False

    def once(updates: Any) -> None:
        nonlocal inside
        inside = True  # setting the weights adds the product to the base, matrix by matrix
        set_updates(updates)
        inside = False

    product = LowRank.dense

    def counted(own: LowRank) -> torch.Tensor:
        formed.extend([] if inside else ["formed"])
        return product(own)

    monkeypatch.setattr(live, "set_updates", once)
    monkeypatch.setattr(LowRank, "dense", counted)
    objective.fitted(coefficients.start_n)
    assert formed == []


def test_activations_computed_again_give_the_same_bits(dense_run: Path) -> None:
    live = LiveModel.open(dense_run, CPU)
    objective, coefficients, _ = blend(live)
    kept = objective.fitted(coefficients.start_n)
    block, calls = live.model.model.layers[0].self_attn.q_proj, []
    handle = block.register_forward_hook(lambda *_: calls.append(1))
    objective.fitted(coefficients.start_n)
    once = len(calls)
    again, _, _ = blend(live, recompute=True)
    loss, gradient = again.fitted(coefficients.start_n)
    handle.remove()
    assert len(calls) == 3 * once
    assert loss == kept[0]
    assert torch.equal(gradient, kept[1])
    assert not any(module.training for module in live.model.modules())


def test_one_gradient_is_in_memory_at_a_time(dense_run: Path) -> None:
    live = LiveModel.open(dense_run, CPU)
    objective, coefficients, _ = blend(live)
    objective.fitted(coefficients.start_n)
    assert all(parameter.grad is None for parameter in live.model.parameters())


def test_the_held_out_loss_is_that_of_other_probes_at_the_same_weights(dense_run: Path) -> None:
    live = LiveModel.open(dense_run, CPU)
    objective, coefficients, sample = blend(live)
    values = coefficients.start_n * 0.9
    loss, _ = objective.fitted(values)
    held = objective.held_out()
    again, same = objective.losses(values)
    assert again == pytest.approx(loss, rel=1e-6)  # the same sums, with and without a graph
    assert same == held
    assert sample.held_out
    assert held == pytest.approx(nll(live, Sample(sample.held_out)), rel=1e-5)


def test_the_entropy_reads_no_answer(dense_run: Path) -> None:
    live = LiveModel.open(dense_run, CPU)
    task = next(t for t in load_split(live.store.file.probes.path, "dev") if isinstance(t, PromptTask))
    other = replace(task, answers=tuple("9" for _ in task.answers))

    def value(own: PromptTask) -> float:
        return sum(float(part.detach()) for part in TaskEntropy(live.tokenizer, own).parts(live.model, CPU))

    assert value(task) == value(other)
    logits = torch.stack([_next(live, prompt) for prompt in task.prompts])
    p = logits.double().softmax(1)
    assert value(task) == pytest.approx(float(-(p * p.log()).sum(1).mean()), rel=1e-5)


def _next(live: LiveModel, prompt: str) -> torch.Tensor:
    """Logits after the last token of a prompt, from a pass of its own."""
    with torch.no_grad():
        logits: torch.Tensor = live.model(torch.tensor([encode_prompt(live.tokenizer, prompt)])).logits
    return logits[0, -1]
