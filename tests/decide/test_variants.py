"""Variants merged and scored in memory: the bits of a run of the same plan, and nothing computed twice."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.calibration.calibrate import calibrate
from gcwm_viz.calibration.result import Calibrated
from gcwm_viz.calibration.settings import CalibrationSettings
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.engine import run_matrices
from gcwm_viz.continual.final import Gated, final_state, gated_merges
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide import variants as module
from gcwm_viz.decide.variant import Variant, parse
from gcwm_viz.decide.variants import Variants, order_matters
from gcwm_viz.engines.local import LocalEngine
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import Update, dense
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.stored import read_examples
from gcwm_viz.runs.inputs import Inputs
from gcwm_viz.runs.run import create_run
from gcwm_viz.updates.matrices import MatrixKey, depth
from tests.decide.conftest import CPU

OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("gcwm", {"decay": 0.7}),
    ("gcwm", {"policy": "current_anchor"}),
    ("gcwm", {"post": "lines"}),
    ("opcm", {}),
]


def same(ours: Sequence[Update | None], theirs: Sequence[Update | None]) -> bool:
    pairs = zip(ours, theirs, strict=True)
    return all(a is not None and b is not None and torch.equal(dense(a), dense(b)) for a, b in pairs)


def no_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gated_merges", lambda *arguments: pytest.fail("merged"))


Merged = Callable[..., RunStore]


@pytest.fixture(scope="module")
def merged(tiny_inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Merged:
    """merged("opcm", eta=0.5) → a run with these settings whose matrices are merged and nothing is scored."""
    made: dict[str, RunStore] = {}

    def finished(method: str, inputs: Inputs = tiny_inputs, **settings: Any) -> RunStore:
        key = repr((method, settings, inputs))
        if key not in made:
            of_run = RunSettings.preset_with("scale-free", settings, method)
            made[key] = create_run(inputs, tmp_path_factory.mktemp("merged") / "run", of_run)
            run_matrices([made[key]], LocalEngine(CPU, 1))
        return made[key]

    return finished


@pytest.fixture
def gcwm(tiny_run: Callable[..., Path]) -> Variants:
    return Variants(RunStore.open(tiny_run("gcwm")))


@pytest.mark.parametrize(("method", "settings"), [("gcwm", {}), ("wudi", {"eta": 0.5}), *OTHERS])
def test_unchanged_it_is_the_final_state_of_the_run(
    merged: Merged, monkeypatch: pytest.MonkeyPatch, method: str, settings: dict[str, Any]
) -> None:
    store = merged(method, **settings)
    no_merge(monkeypatch)
    states = Variants(store).states(Variant.as_run(store))
    assert same(states, [store.stored_state(index, 3) for index in range(len(store.keys))])


@pytest.mark.parametrize(("method", "settings"), [("gcwm", {}), ("ties", {}), *OTHERS])
def test_without_an_update_it_is_the_final_state_without_it(
    merged: Merged, method: str, settings: dict[str, Any]
) -> None:
    store = merged(method, **settings)
    base = CheckpointIndex.open(store.file.base.path)
    first, _, third = (entry.open(base) for entry in store.file.updates)
    names, layers = ["first", "third"], depth(store.keys)
    expected = [final_state(k, names, [first.delta(k), third.delta(k)], store.settings, layers) for k in store.keys]
    assert same(Variants(store).states(parse("1_first~1_third", store)), expected)


@pytest.mark.parametrize(("method", "settings"), [("gcwm", {}), ("gcwm", {"decay": 0.7}), ("opcm", {})])
def test_strengths_eta_and_gate_are_those_of_a_run_of_the_plan(
    merged: Merged, tiny_inputs: Inputs, method: str, settings: dict[str, Any]
) -> None:
    store = merged(method, **settings)
    gate = {"tau": 0.3, "alpha_max": 0.6} if method == "gcwm" else {}
    variant = Variant.as_run(store).at(eta=0.7, **gate)
    variant = replace(variant, updates=tuple((name, 0.3 if name == "second" else 1.0) for name in store.updates))
    inputs = replace(tiny_inputs, strengths={"second": 0.3})
    run = merged(method, inputs, **(settings | gate | {"eta": 0.7}))
    assert run.settings == variant.settings
    assert same(Variants(store).states(variant), [run.stored_state(index, 3) for index in range(len(run.keys))])


def test_another_order_is_merged_where_it_matters(
    merged: Merged, monkeypatch: pytest.MonkeyPatch, tiny_inputs: Inputs
) -> None:
    reordered = replace(tiny_inputs, updates=[tiny_inputs.updates[place] for place in (2, 0, 1)])
    for method, tolerance in (("opcm", 0.0), ("gcwm", 1e-5)):
        store, other = (merged(method, inputs) for inputs in (tiny_inputs, reordered))
        assert order_matters(store) == (method == "opcm")
        if method == "gcwm":
            no_merge(monkeypatch)
        states = Variants(store).states(parse("1_third~1_first~1_second", store))
        for index, state in enumerate(states):
            expected = other.state(index, 3)
            assert state is not None
            assert torch.linalg.norm(dense(state) - expected) <= tolerance * torch.linalg.norm(expected)


@pytest.mark.parametrize("settings", [{"memory": 2}, {"decay": 0.5}, {"old_weight": 0.5}, {"policy": "current_anchor"}])
def test_order_matters_where_an_active_set_or_weight_depends_on_it(
    tiny_inputs: Inputs, tmp_path: Path, settings: dict[str, Any]
) -> None:
    store = create_run(tiny_inputs, tmp_path / "run", RunSettings.preset_with("scale-free", settings))
    assert order_matters(store)


def test_eta_gate_and_what_was_merged_before_need_no_merge(gcwm: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    once = parse("1_first~1_third", gcwm.store)
    assert math.isnan(gcwm.expected(once, "dev"))
    gcwm.states(once, lambda done, total: told.append((done, total)))
    assert told == [(place, len(gcwm.store.keys)) for place in range(1, len(gcwm.store.keys) + 1)]
    assert gcwm.merging > 0
    no_merge(monkeypatch)
    for text in ("~~0.5_eta", "~~none_gate", "1_first~1_second", "1_first", "1_first~1_third~~0.5_eta~0.9_tau"):
        gcwm.states(parse(text, gcwm.store))


def test_an_interrupted_merge_goes_on(gcwm: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    variant, keys = parse("1_first~1_third", gcwm.store), gcwm.store.keys

    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gcwm.states(variant, interrupt)
    merged: list[MatrixKey] = []

    def counted(key: MatrixKey, *rest: Any) -> dict[int, Gated]:
        merged.append(key)
        return gated_merges(key, *rest)

    monkeypatch.setattr(module, "gated_merges", counted)
    states = gcwm.states(variant)
    assert merged == keys[5:]
    assert same(states, Variants(gcwm.store).states(variant))


def test_merges_ahead_are_those_without_one_update(gcwm: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    run, steps = Variant.as_run(gcwm.store), 0
    while taken := gcwm.likely(run):
        gcwm.merge_ahead(taken, 0.0)
        steps += 1
    assert steps == 2 * len(gcwm.store.keys)  # without the last it is a step of the run
    no_merge(monkeypatch)
    for text in ("1_second~1_third", "1_first~1_third", "1_first~1_second"):
        gcwm.states(parse(text, gcwm.store))
    assert gcwm.likely(parse("1_first", gcwm.store)) is None


def test_memory_is_bounded(gcwm: Variants, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    first, second = parse("1_first~1_third", gcwm.store), parse("1_second~1_third", gcwm.store)
    states = gcwm.states(first)
    gcwm.states(second)
    assert len(gcwm._merges) == 1
    assert not gcwm._updates
    assert same(gcwm.states(first), states)


def test_scores_are_those_of_the_run(gcwm: Variants) -> None:
    live, run = LiveModel(gcwm.store, CPU), Variant.as_run(gcwm.store)
    every = {(task.name, task.split): task for task in read_examples(gcwm.store, 3)}
    for split in ("dev", "test"):
        stored = gcwm.stored(run, split)
        assert [(task.name, task.split) for task in stored] == [key for key in every if key[1] == split]
        found = list(gcwm.scores(live, run, split))
        assert len(found) == gcwm.count(split) == 3
        for task in found:
            for metric, values in every[task.name, split].metrics.items():
                tolerance = 0.0 if metric in ("em", "acc") else 1e-5
                assert torch.allclose(task.metrics[metric], values, rtol=0, atol=tolerance)
        assert gcwm.expected(run, split) == gcwm.scoring[split] > 0
    assert gcwm.stored(run.at(eta=0.5), "dev") == []
    assert gcwm.stored(parse("1_first~1_second", gcwm.store), "dev") == []


@pytest.fixture(scope="module")
def calibrated(tiny_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    run = Path(shutil.copytree(tiny_run("gcwm"), tmp_path_factory.mktemp("calibrated") / "run"))
    calibrate(run, CalibrationSettings(passes=2, held_out=0.5))
    return RunStore.open(run)


def test_calibrated_coefficients_are_those_of_the_calibration(calibrated: RunStore) -> None:
    ours = Variants(calibrated).states(parse("~~calibrated", calibrated))
    fitted = Calibrated.of(calibrated, CheckpointIndex.open(calibrated.file.base.path))
    assert same(ours, [fitted.update(place) for place in range(len(calibrated.keys))])


def test_coefficients_of_what_is_left_out_do_not_count(calibrated: RunStore) -> None:
    variants = Variants(calibrated)
    ours = variants.states(parse("0.5_first~~0.5_eta~calibrated", calibrated))
    plain = variants.states(parse("0.5_first~~0.5_eta", calibrated))
    base = CheckpointIndex.open(calibrated.file.base.path)
    factors, first = Calibrated.of(calibrated, base).factors, calibrated.file.updates[0].open(base)
    for key, own, state in zip(calibrated.keys, ours, plain, strict=True):
        delta = first.delta(key)
        assert own is not None
        assert state is not None
        assert delta is not None
        expected = factors[key.name][0] * dense(state) + factors[key.name][1] * 0.5 * dense(delta)
        assert torch.allclose(dense(own), expected, rtol=1e-5, atol=1e-7)


def test_runs_without_variants_say_why(tiny_run: Callable[..., Path], tiny_inputs: Inputs, gcwm: Variants) -> None:
    with pytest.raises(InputError, match="without probes"):
        Variants(RunStore.open(tiny_run("wudi", inputs=replace(tiny_inputs, probes=None))))
    with pytest.raises(InputError, match="outside=sum"):
        Variants(RunStore.open(tiny_run("wudi", outside="sum")))
    with pytest.raises(InputError, match="no finished calibration"):
        gcwm.states(parse("~~calibrated", gcwm.store))
