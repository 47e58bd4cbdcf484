"""The split of a loss: closed forms, completeness against independent scoring, and invariances."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.attribution import path as path_module
from gcwm_viz.attribution.gradients import inner
from gcwm_viz.attribution.path import StatePath, between, change_between, quadrature, split_loss
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, Update, dense
from gcwm_viz.probes.behaviour import BehaviourProbe
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.loss import TaskLoss
from gcwm_viz.probes.tasks import HarnessTask, PromptTask, first, load_tasks
from tests.attribution.models import CPU


class FunctionLoss:
    """A loss that is any function of the target matrices, in place of a task's."""

    def __init__(self, live: LiveModel, function: Any) -> None:
        self.task = PromptTask("made", "dev", ("a",), ("b",))
        weights = live.merged.weights
        assert weights is not None
        self._weights = [weights[key.name].parameter for key in live.merged.keys]
        self._function = function

    def parts(self, model: torch.nn.Module, device: torch.device) -> Iterator[Tensor]:
        yield self._function(self._weights)


def weights_like(live: LiveModel, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(key.shape, generator=generator) for key in live.store.keys]


@pytest.fixture(scope="module")
def live(merged: Path) -> LiveModel:
    return LiveModel.open(merged, CPU)


def ends(live: LiveModel, start: int, step: int) -> tuple[list[Update | None], list[Update | None]]:
    return tuple(live.updates(("step", s, "") if s else ("base", 0, "")) for s in (start, step))  # type: ignore[return-value]


def losses(live: LiveModel) -> list[TaskLoss]:
    tasks = load_tasks(live.store.file.probes.path)
    return [TaskLoss(live.tokenizer, task) for task in tasks if not isinstance(task, HarnessTask)]


def value_of(loss: TaskLoss, live: LiveModel) -> float:
    return sum(float(part.detach()) for part in loss.parts(live.model, CPU))


def test_the_loss_is_the_probes_own_nll(live: LiveModel) -> None:
    live.set(("step", 2, ""))
    own = losses(live)
    measured = BehaviourProbe(live.tokenizer, [loss.task for loss in own]).measure(live.model)
    assert {type(loss.task).__name__ for loss in own} == {"PromptTask", "ChoiceTask", "TextTask"}
    for loss, values in zip(own, measured, strict=True):
        # float32 sums of a few tens of terms
        assert value_of(loss, live) == pytest.approx(float(values.metrics["nll"].mean()), rel=1e-5)


def test_the_first_examples_alone(live: LiveModel) -> None:
    task = next(loss.task for loss in losses(live) if isinstance(loss.task, PromptTask))
    short = PromptTask(task.name, task.split, task.prompts[:2], task.answers[:2])
    assert first(task, 2) == short
    assert first(task, None) == task


def test_a_linear_loss_is_split_exactly(live: LiveModel) -> None:
    """⟨C, W⟩ splits into ⟨C_k, D_k⟩ with any number of nodes."""
    slopes = weights_like(live, 1)
    start, end = ends(live, 1, 2)
    changes = [change_between(a, b) for a, b in zip(start, end, strict=True)]
    loss: Any = FunctionLoss(live, lambda weights: sum((c * w).sum() for c, w in zip(slopes, weights, strict=True)))
    split = split_loss(StatePath(live.merged, start, end), loss)
    assert split.nodes == path_module.FIRST_NODES
    for value, slope, change in zip(split.values, slopes, changes, strict=True):
        products = torch.zeros(1) if change is None else slope.double() * dense(change).double()
        # The products are rounded to float32 before they are summed, and so is the change.
        assert value == pytest.approx(float(products.sum()), abs=1e-6 * float(products.abs().sum()))


def test_two_matrices_that_interact_share_what_they_do_together(live: LiveModel) -> None:
    """L = a·b with a = ⟨X, W_0⟩, b = ⟨Y, W_1⟩: A_0 = δa (b + ½δb), A_1 = δb (a + ½δa)."""
    x, y = weights_like(live, 2)[:2]
    start, end = ends(live, 1, 2)
    path = StatePath(live.merged, start, end)
    loss: Any = FunctionLoss(live, lambda weights: (x * weights[0]).sum() * (y * weights[1]).sum() / 100)
    split = split_loss(path, loss)
    weights = live.merged.weights
    assert weights is not None
    sides = []
    for place in (0.0, 1.0):
        path.move(place)
        first, second = (weights[key.name].parameter.detach().double() for key in live.store.keys[:2])
        sides.append((float((x * first).sum()), float((y * second).sum())))
    (a, b), (a_end, b_end) = sides
    expected = [(a_end - a) * (b + b_end) / 200, (b_end - b) * (a + a_end) / 200]
    assert split.values[:2] == pytest.approx(expected, rel=1e-4)
    assert split.values[2:] == [0.0] * (len(split.values) - 2)
    assert split.residual <= 1e-4 * sum(map(abs, expected))


@pytest.mark.parametrize("run", ["merged", "adapted"])
@pytest.mark.parametrize("states", [(0, 1), (1, 2), (2, 3), (0, 3)])
def test_it_is_complete(run: str, states: tuple[int, int], request: pytest.FixtureRequest) -> None:
    """Σ A_k is the difference of two independent scorings, within the stated residual."""
    live = LiveModel.open(request.getfixturevalue(run), CPU)
    start, end = ends(live, *states)
    path = StatePath(live.merged, start, end)
    own = losses(live)
    splits = [split_loss(path, loss) for loss in own]
    scored = []
    for state in states:
        live.set(("step", state, "") if state else ("base", 0, ""))
        measured = BehaviourProbe(live.tokenizer, [loss.task for loss in own]).measure(live.model)
        scored.append([float(values.metrics["nll"].mean()) for values in measured])
    for split, before, after in zip(splits, *scored, strict=True):
        assert split.change == pytest.approx(after - before, abs=1e-4)  # float32 losses of about 10 nats
        assert abs(sum(split.values) - (after - before)) <= split.residual + 1e-4
        assert split.converged
        assert split.residual <= max(0.02 * abs(split.change), 1e-3)


def test_the_order_of_matrices_does_not_matter(merged: Path) -> None:
    live = LiveModel.open(merged, CPU)
    start, end = ends(live, 1, 2)
    loss = losses(live)[0]
    forward = split_loss(StatePath(live.merged, start, end), loss)
    live.merged.keys.reverse()
    backward = split_loss(StatePath(live.merged, start[::-1], end[::-1]), loss)
    assert backward.values[::-1] == pytest.approx(forward.values, rel=1e-6, abs=1e-9)


def test_factors_and_their_product_are_split_alike(adapted: Path) -> None:
    live = LiveModel.open(adapted, CPU)
    start, end = ends(live, 1, 2)
    assert all(isinstance(update, LowRank) for update in (*start, *end) if update is not None)
    loss = losses(live)[0]
    thin = split_loss(StatePath(live.merged, start, end), loss)
    full = split_loss(
        StatePath(live.merged, *([None if u is None else dense(u) for u in side] for side in (start, end))), loss
    )
    assert full.nodes == thin.nodes
    # Two orders of summation in float32 under a network's condition.
    assert thin.values == pytest.approx(full.values, rel=1e-3, abs=1e-4)


def test_no_factor_is_multiplied_out(adapted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveModel.open(adapted, CPU)
    start, end = ends(live, 1, 2)
    assert isinstance(between(start[0], end[0], 0.3), LowRank)
    gradient = torch.randn(live.store.keys[0].shape, generator=torch.Generator().manual_seed(3))
    change = change_between(start[0], end[0])
    assert isinstance(change, LowRank)
    expected = float((gradient * change.dense()).sum())
    monkeypatch.setattr(LowRank, "dense", lambda _: pytest.fail("a factored change was multiplied out"))
    assert inner(gradient, change) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_nodes_double_until_the_residual_holds(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss that oscillates along the path needs more nodes than the first; at most the stated number is used."""
    slopes = weights_like(live, 4)
    start, end = ends(live, 0, 3)
    base = [p.detach().clone() for p in _at(live, start, end, 0.0)]
    span = sum(float((c * (w - b)).sum()) for c, w, b in zip(slopes, _at(live, start, end, 1.0), base, strict=True))

    def wave(weights: list[Tensor]) -> Tensor:
        along = sum((c * (w - b)).sum() for c, w, b in zip(slopes, weights, base, strict=True)) / span
        return torch.as_tensor(along + torch.sin(40.0 * torch.as_tensor(along)))

    loss: Any = FunctionLoss(live, wave)
    split = split_loss(StatePath(live.merged, start, end), loss)
    assert split.converged
    assert split.nodes in (17, 33)  # cos(40x) on [0, 1] has some six periods
    few = split_loss(StatePath(live.merged, start, end), loss, most_nodes=5)
    assert not few.converged
    assert few.nodes == 5


def _at(live: LiveModel, start: Any, end: Any, x: float) -> list[Tensor]:
    StatePath(live.merged, start, end).move(x)
    weights = live.merged.weights
    assert weights is not None
    return [weights[key.name].parameter.detach().clone() for key in live.merged.keys]


def test_half_precision_says_by_its_residual_whether_it_was_enough(live: LiveModel) -> None:
    start, end = ends(live, 1, 2)
    loss = losses(live)[0]
    exact = split_loss(StatePath(live.merged, start, end), loss)
    half = split_loss(StatePath(live.merged, start, end, half=True), loss, most_nodes=9)
    assert half.values != exact.values
    assert half.residual == pytest.approx(abs(sum(half.values) - half.change))
    # bfloat16 keeps 8 bits: the sum is off by no more than its own residual and the error of two losses of ~10 nats.
    assert sum(half.values) == pytest.approx(exact.change, abs=half.residual + 20 * 2**-8)


def test_a_loss_that_is_not_finite_is_named(live: LiveModel) -> None:
    start, end = ends(live, 1, 2)
    broken = [None if update is None else dense(update) * 1e25 for update in end]
    with pytest.raises(InputError, match=r"task '<b>odd' \(dev\): its loss between the two states is nan, expected"):
        split_loss(StatePath(live.merged, start, broken), losses(live)[0])


@pytest.mark.parametrize("nodes", [3, 5, 9, 17, 65])
def test_the_quadrature_is_exact_for_polynomials_and_nested(nodes: int) -> None:
    places, weights = quadrature(nodes)
    x, w = (torch.tensor(part, dtype=torch.float64) for part in (places, weights))
    for degree in range(nodes):
        assert float((w * x**degree).sum()) == pytest.approx(1 / (degree + 1), rel=1e-12)
    assert bool((w > 0).all())
    assert (places[0], places[-1]) == (0.0, 1.0)
    assert quadrature(2 * nodes - 1)[0][::2] == places


def test_a_gradient_that_was_left_there_does_not_count(live: LiveModel) -> None:
    start, end = ends(live, 1, 2)
    loss = losses(live)[0]
    clean = split_loss(StatePath(live.merged, start, end), loss)
    for parameter in live.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert split_loss(StatePath(live.merged, start, end), loss) == clean


def test_nodes_of_a_doubled_rule_are_not_measured_again(live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_module, "RELATIVE", 0.0)
    monkeypatch.setattr(path_module, "ABSOLUTE", -1.0)  # no residual holds
    path = StatePath(live.merged, *ends(live, 1, 2))
    moved: list[float] = []
    move = path.move

    def record(x: float) -> None:
        moved.append(x)
        move(x)

    monkeypatch.setattr(path, "move", record)
    assert split_loss(path, losses(live)[0], most_nodes=17).nodes == 17
    assert len(moved) == len(set(moved)) == 17
