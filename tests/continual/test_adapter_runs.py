"""Runs over LoRA adapters: the run folder holds factors, and the model they give is that of the dense updates."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from gcwm_viz.checkpoints.header import read_header
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.estimate import Estimate, estimate, stored_bytes
from gcwm_viz.continual.result import process_matrix
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.runs.inputs import Inputs, open_inputs
from gcwm_viz.runs.run import continue_run, create_run
from gcwm_viz.updates.matrices import MatrixKey, target_matrices
from gcwm_viz.updates.source import UpdateSource, joint_rank
from gcwm_viz.updates.sources import open_update
from tests.checkpoints import tiny

CPU = torch.device("cpu")
RANKS = (2, 3)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("adapters")
    base = tiny.save(tiny.model("qwen3"), root / "base")
    modules = ["q_proj", "v_proj", "down_proj"]
    adapters = [tiny.lora("qwen3", root / f"a{rank}", r=rank, target_modules=modules, seed=rank)[0] for rank in RANKS]
    return Inputs(base=base, updates=[(path.name, path) for path in adapters])


def sources(inputs: Inputs) -> list[UpdateSource]:
    base = CheckpointIndex.open(inputs.base)
    return [open_update(name, path, base) for name, path in inputs.updates]


def delta_of(source: UpdateSource, key: MatrixKey) -> Tensor:
    delta = source.delta(key)
    assert delta is not None
    return dense(delta)


def test_a_run_over_adapters_keeps_factors_and_gives_the_dense_merge(inputs: Inputs, tmp_path: Path) -> None:
    store = create_run(inputs, tmp_path / "run", RunSettings())
    continue_run(store, CPU, workers=1)
    for index, key in enumerate(store.keys):
        deltas = [delta_of(source, key) for source in sources(inputs)]
        result = process_matrix(key, store.updates, deltas, store.settings)
        for step in (1, 2):
            row = result.rows["matrices"][step - 1]
            expected = torch.lerp(result.tensors[f"plain.{step}"], result.tensors[f"geo.{step}"], row["alpha"])
            if row["mode"] != "blend":
                expected = result.tensors[f"{row['mode']}.{step}"]
            torch.testing.assert_close(store.state(index, step), expected, rtol=1e-4, atol=1e-6)
    ranks = [joint_rank(key, sources(inputs)) for key in store.keys]
    assert ranks == [sum(RANKS)] * len(store.keys)
    kept = sum(file.stat().st_size for file in (tmp_path / "run" / "matrices").glob("*.safetensors"))
    headers = 600 * len(store.keys)
    assert kept - headers < stored_bytes(store.keys, 2, store.settings, ranks)
    assert stored_bytes(store.keys, 2, store.settings, ranks) < stored_bytes(store.keys, 2, store.settings)


def test_adapters_are_estimated_thin_where_they_stay_thin(inputs: Inputs) -> None:
    found = sources(inputs)
    keys = found[0].touched(target_matrices(found[0].base))
    ranks = [joint_rank(key, found) for key in keys]

    def need(**settings: str) -> Estimate:
        return estimate(keys, 2, RunSettings.preset_with("scale-free", settings), CPU, ranks)

    thin, adam = need(), need(solver="adam")
    assert thin.disk_bytes < adam.disk_bytes
    assert thin.memory_bytes < adam.memory_bytes
    assert thin.flops < adam.flops
    full = estimate(keys, 2, RunSettings.preset_with("scale-free", {"solver": "adam"}), CPU)
    assert adam.disk_bytes == full.disk_bytes
    assert joint_rank(keys[0], [*found, open_update("whole", inputs.base, CheckpointIndex.open(inputs.base))]) is None


@pytest.mark.parametrize("kind", ["adapters", "dense update", "checkpoint"])
@pytest.mark.parametrize(("method", "keep"), [("gcwm", "all"), ("wudi", "all"), ("gcwm", "last")])
def test_given_states_need_the_disk_that_is_said(
    inputs: Inputs, tmp_path: Path, kind: str, method: str, keep: str
) -> None:
    """Adapters as states of adapters; as states of an update that is dense; and a checkpoint as the last state."""
    whole = tmp_path / "whole"
    model = tiny.model("qwen3")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    tiny.save(model, whole)
    states = [path for _, path in inputs.updates]
    if kind == "checkpoint":
        states[1] = whole
    updates = [("whole", whole), inputs.updates[1]] if kind == "dense update" else inputs.updates
    run = Inputs(base=inputs.base, updates=updates, states=states)
    settings = RunSettings.preset_with("scale-free", {"keep": keep}, method)
    opened = open_inputs(run)
    needed = stored_bytes(opened.plan.active, 2, settings, opened.ranks, opened.state_ranks)
    store = create_run(run, tmp_path / "run", settings)
    continue_run(store, CPU, workers=1)
    kept = 0
    for file in (tmp_path / "run" / "matrices").glob("*.safetensors"):
        kept += sum(info.nbytes for info in read_header(file)[0].values())
    assert kept == needed


def test_given_states_that_are_adapters_stay_factored_too(inputs: Inputs, tmp_path: Path) -> None:
    states = [path for _, path in inputs.updates]
    run = Inputs(base=inputs.base, updates=inputs.updates, states=states)
    store = create_run(run, tmp_path / "run", RunSettings())
    continue_run(store, CPU, workers=1)
    for index, key in enumerate(store.keys):
        for step, source in enumerate(sources(inputs), start=1):
            assert isinstance(store.branches(index, step).updates["merged"], LowRank)
            torch.testing.assert_close(store.state(index, step), delta_of(source, key))
