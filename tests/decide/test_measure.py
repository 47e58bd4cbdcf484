"""What probes say of updates: gradients against finite differences, first answer tokens against a forward pass."""

import math

import pytest
import torch

from gcwm_viz.attribution.path import StatePath, split_loss
from gcwm_viz.decide.measure import FirstTokens, divergence, first_order
from gcwm_viz.experiments.lab.train import CharacterCorpus
from gcwm_viz.linalg.lowrank import LowRank, Update, dense, scaled
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.tasks import PromptTask
from gcwm_viz.studies.lab.bench import Bench
from gcwm_viz.studies.lab.where import LabModel
from tests.decide.benchmark.tiny_pools import RECIPE, tiny_pools
from tests.factories import generator, low_rank_updates

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    with tiny_pools():
        return Bench(0, RECIPE, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def model(bench: Bench) -> LabModel:
    return LabModel(bench)


def changes(model: LabModel, count: int = 3) -> list[list[Update | None]]:
    """Adapters, and one dense; the last does not touch every matrix."""
    by_matrix = [low_rank_updates(count, *key.shape, 2, seed=k) for k, key in enumerate(model.keys)]
    found: list[list[Update | None]] = [[own[j] for own in by_matrix] for j in range(count)]
    found[1] = [dense(delta) for delta in found[1] if delta is not None]
    found[-1][0] = found[-1][3] = None
    return found


def value(model: LabModel, loss: TaskLoss) -> float:
    with torch.no_grad():
        return sum(float(part) for part in loss.parts(model.model, CPU))


def test_first_order_is_the_slope_of_the_loss(bench: Bench, model: LabModel) -> None:
    expert: list[Update | None] = [bench.library.expert("past")[key.name] for key in model.keys]
    loss = TaskLoss(bench.tokenizer, bench.prompts("dev")[1])
    deltas = changes(model)
    for start in ([None] * len(model.keys), expert):
        model.set_updates(start)
        found = first_order(model, loss, deltas)
        for j, delta in enumerate(deltas):
            # Central differences: the error is of third order in h, and float32 leaves some 1e-6 of the loss.
            h = 0.02
            ends = []
            for sign in (1.0, -1.0):
                both = zip(start, delta, strict=True)
                moved = [a if d is None else scaled(d, sign * h) if a is None else dense(a) + sign * h * dense(d)
                         for a, d in both]  # fmt: skip
                model.set_updates(moved)
                ends.append(value(model, loss))
            model.set_updates(start)
            assert float(found[j]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=0.02, abs=5e-4)
        assert bool((found.abs() > 1e-3).all())


def test_first_order_is_linear_and_leaves_no_gradient(bench: Bench, model: LabModel) -> None:
    model.set_updates([None] * len(model.keys))
    loss = TaskLoss(bench.tokenizer, bench.prompts("dev")[0])
    one, other, _ = (dense_all(model, delta) for delta in changes(model))
    both = [a + 2 * b for a, b in zip(one, other, strict=True)]
    nothing: list[Update | None] = [None] * len(one)
    found = first_order(model, loss, [one, other, both, nothing])
    assert float(found[2]) == pytest.approx(float(found[0] + 2 * found[1]), rel=1e-4)
    assert float(found[3]) == 0
    assert all(parameter.grad is None for parameter in model.model.parameters())
    assert torch.equal(first_order(model, loss, [one]), found[:1])


def dense_all(model: LabModel, delta: list[Update | None]) -> list[torch.Tensor]:
    return [torch.zeros(key.shape) if d is None else dense(d) for key, d in zip(model.keys, delta, strict=True)]


def test_first_order_is_the_start_of_the_attribution(bench: Bench, model: LabModel) -> None:
    """Along a path so short that the loss is straight, the whole split is the slope."""
    delta = [scaled(d, 1e-3) if d is not None else None for d in changes(model)[0]]
    nothing: list[Update | None] = [None] * len(delta)
    loss = TaskLoss(bench.tokenizer, bench.prompts("dev")[2])
    split = split_loss(StatePath(model, nothing, delta), loss, 5)
    model.set_updates(nothing)
    assert float(first_order(model, loss, [delta])) == pytest.approx(sum(split.values), rel=0.01)


def test_first_tokens_are_those_of_a_forward_pass(bench: Bench, model: LabModel) -> None:
    """Prompts of several lengths, so that batches are padded."""
    model.set_updates([None] * len(model.keys))
    pairs = [("pa=", "b"), ("k=", "xyz"), ("iabc=", "q"), ("s", "aa")]
    task = PromptTask("mixed", "dev", *map(tuple, zip(*pairs, strict=True)))
    found = FirstTokens(bench.tokenizer, task).of(model.model, CPU)
    corpus = CharacterCorpus(pairs)
    for row, (prompt, _) in enumerate(pairs):
        ids = corpus.ids[row, : len(prompt) + 1]  # BOS and the prompt
        with torch.no_grad():
            expected = model.model(ids[None]).logits[0, -1].log_softmax(-1)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-5)
    other_answers = PromptTask("mixed", "dev", task.prompts, ("c", "c", "c", "c"))
    assert torch.equal(FirstTokens(bench.tokenizer, other_answers).of(model.model, CPU), found)


def test_divergence() -> None:
    same = torch.randn(5, 7, generator=generator(0)).log_softmax(-1)
    other = torch.randn(5, 7, generator=generator(1)).log_softmax(-1)
    assert divergence(same, same) == 0
    expected = torch.nn.functional.kl_div(other, same, log_target=True, reduction="batchmean")
    assert divergence(same, other) == pytest.approx(float(expected), rel=1e-5)
    assert divergence(same, other) > 0
    # A fair coin against a sure one: ½ ln(½ / p) + ½ ln(½ / (1 − p)).
    fair, sure = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    assert divergence(fair, sure) == pytest.approx(-0.5 * math.log(4 * 0.9 * 0.1), rel=1e-5)


def test_factored_changes_have_the_slope_of_their_product(bench: Bench, model: LabModel) -> None:
    model.set_updates([None] * len(model.keys))
    loss = TaskLoss(bench.tokenizer, bench.prompts("dev")[1])
    factored = changes(model)[0]
    assert all(isinstance(delta, LowRank) for delta in factored)
    found = first_order(model, loss, [factored, dense_all(model, factored)])
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-4)
