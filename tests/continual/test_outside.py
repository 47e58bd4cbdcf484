"""What lies outside the target matrices, merged on request: one model in scores, exports and everything measured."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from gcwm_viz import calibrate
from gcwm_viz.attribution.attribute import attribute
from gcwm_viz.attribution.plan import Ends
from gcwm_viz.attribution.restore import Restoration
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.config import RunSettings
from gcwm_viz.continual.outside import OutsideState
from gcwm_viz.continual.store import RunStore
from gcwm_viz.decide.plans import measure
from gcwm_viz.decide.predict import predict
from gcwm_viz.errors import InputError
from gcwm_viz.export.adapter import export_adapter
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.export.restored import export_restored
from gcwm_viz.probes.live import LiveModel
from gcwm_viz.probes.merged import OutsideTensor
from gcwm_viz.probes.stored import state_of
from gcwm_viz.runs.inputs import Inputs, reopen_inputs
from gcwm_viz.runs.run import create_run
from gcwm_viz.studies.leave_one_out import leave_one_out
from gcwm_viz.studies.regate import regate
from gcwm_viz.updates.pairing import open_update
from gcwm_viz.updates.vocabulary import FILE
from tests.attribution.models import CPU, finish, write_inputs, write_states
from tests.checkpoints import tiny
from tests.continual.inputs import write_base

TOKENS = torch.arange(3, 15).reshape(2, 6)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Three updates that change norms and embeddings too."""
    root = tmp_path_factory.mktemp("outside")
    listed = write_inputs(root, size=1.0)
    generator = torch.Generator().manual_seed(3)
    shapes = {name: tensor.shape for name, tensor in tiny.tensors(listed.base).items()}
    for _, folder in listed.updates:
        content = load_file(folder / "update.safetensors")
        extra = {n: 0.1 * torch.randn(s, generator=generator) for n, s in shapes.items() if n not in content}
        save_file(extra | content, folder / "update.safetensors", metadata={"gcwm_viz": "update"})
    return listed


@pytest.fixture(scope="module", params=["sum", "mean"])
def run(request: pytest.FixtureRequest, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    return finish(inputs, tmp_path_factory.mktemp("run") / "run", "gcwm", outside=request.param, eta=0.6)


@pytest.mark.parametrize("outside", ["sum", "mean"])
@pytest.mark.parametrize(
    "changes",
    [
        {"eta": 0.7},
        {"eta": 0.7, "decay": 0.5},
        {"memory": 2, "old_weight": 0.5},
        {"policy": "current_anchor", "old_weight": 0.3, "eta": 0.9},
        {"policy": "current_anchor", "new_weight": 2.0, "decay": 0.8},
        {"keep": "last"},
    ],
)
def test_the_rest_is_integrated_as_the_matrices_are(outside: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """A copy of a matrix outside the blocks has the state that task arithmetic, or the mean, gives the matrix."""
    name, copy = "model.layers.0.mlp.up_proj.weight", "copy.weight"
    base = write_base(tmp_path / "base")
    tiny.store(base, (own := tiny.tensors(base)) | {copy: own[name].clone()})
    updates = []
    for place, label in enumerate("abcd"):
        change = torch.randn(own[name].shape, generator=torch.Generator().manual_seed(place))
        folder = tiny.store(tmp_path / label, {name: change, copy: change.clone()}, gcwm_viz="update")
        updates.append((label, folder))
    method = "task-arithmetic" if outside == "sum" else "mean"
    # The mean of whole tensors has no step size.
    merged = changes if outside == "sum" else {**changes, "eta": 1.0, "decay": 1.0}
    store = finish(Inputs(base=base, updates=updates), tmp_path / "run", method, **merged)
    settings = RunSettings.preset_with("scale-free", {**changes, "outside": outside}, method)
    state = OutsideState(reopen_inputs(store).sources, store.keys, settings.continual)
    assert state.names == [copy]
    for step in range(4 if "keep" in changes else 1, 5):
        # Sums of four float32 terms in another order.
        torch.testing.assert_close(state.change(copy, step), store.state(0, step), rtol=1e-5, atol=1e-5)
    whole, half = state.change(copy, 4), state.change(copy, 4, 0.5)
    assert whole is not None
    torch.testing.assert_close(half, whole * (0.5 if outside == "sum" else 1.0))


def test_nothing_is_merged_there_by_default(inputs: Inputs, tmp_path: Path) -> None:
    store = finish(inputs, tmp_path / "run")
    assert OutsideState(reopen_inputs(store).sources, store.keys, store.settings.continual).names == []
    merged, base = tiny.tensors(export_step(store, 3, tmp_path / "out")), tiny.tensors(inputs.base)
    assert {n for n in base if not torch.equal(base[n], merged[n])} == {key.name for key in store.keys}


def test_what_an_adapter_changes_outside_is_merged_as_peft_merges_it(tmp_path: Path) -> None:
    """Embeddings stored whole, and factors on the head."""
    base = tiny.save(tiny.model("qwen3"), tmp_path / "base")
    folder, _, merged = tiny.lora(
        "qwen3", tmp_path / "lora", r=2, target_modules=["q_proj", "lm_head"], modules_to_save=["embed_tokens"]
    )
    store = finish(
        Inputs(base=base, updates=[("a", folder)]), tmp_path / "run", "task-arithmetic", eta=1.0, outside="sum"
    )
    found = tiny.tensors(export_step(store, 1, tmp_path / "out"))
    assert found.keys() <= merged.keys()
    for name, tensor in found.items():
        # Weights near 1 plus a product of two factors of rank 2, summed in another order in float32.
        torch.testing.assert_close(tensor, merged[name], rtol=1e-5, atol=1e-5)


def test_a_mean_of_models_is_the_mean_of_all_their_tensors(tmp_path: Path) -> None:
    """Full checkpoints of tied and untied models; transformers loads the mean, a stored table once where it is tied."""
    for name in ("qwen3", "qwen3-untied"):
        root = tmp_path / name
        models = {label: tiny.model(name, seed=seed) for seed, label in enumerate(("base", "a", "b"))}
        folders = {label: tiny.save(each, root / label) for label, each in models.items()}
        inputs = Inputs(base=folders["base"], updates=[(label, folders[label]) for label in "ab"])
        store = finish(inputs, root / "run", "mean", outside="mean", eta=1.0)
        merged = export_step(store, 2, root / "merged")
        found, a, b = (tiny.tensors(folder) for folder in (merged, folders["a"], folders["b"]))
        assert found.keys() == a.keys()
        for tensor, value in found.items():
            torch.testing.assert_close(value, (a[tensor] + b[tensor]) / 2, rtol=1e-5, atol=1e-6)  # float32 sums
        loaded = AutoModelForCausalLM.from_pretrained(merged)
        tied = loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight
        assert tied == (name == "qwen3")


def test_the_model_that_is_scored_is_the_one_exported(run: RunStore, tmp_path: Path) -> None:
    live = LiveModel(run, CPU)
    with torch.no_grad():
        for step in (1, 3):
            loaded = AutoModelForCausalLM.from_pretrained(export_step(run, step, tmp_path / str(step))).eval()
            live.set(state_of(run, step))
            assert torch.equal(loaded(TOKENS).logits, live.model(TOKENS).logits)
        base = AutoModelForCausalLM.from_pretrained(run.file.base.path).eval()
        live.set(("base", 0, ""))
        assert torch.equal(base(TOKENS).logits, live.model(TOKENS).logits)
    changed = tiny.tensors(tmp_path / "3")
    assert all(not torch.equal(tensor, changed[name]) for name, tensor in tiny.tensors(run.file.base.path).items())
    word = run.settings.continual.outside
    assert {"sum": "base's + η Σ Δ_i", "mean": "mean of the updates'"}[word] in (
        tmp_path / "3" / "README.md"
    ).read_text()
    norms = pd.read_parquet(run.path / "tables" / "updates.parquet")["note"]
    assert norms.str.contains(f"outside the target matrices and is merged by a {word}: ").all()


def test_attribution_and_undoing_know_the_rest(run: RunStore, tmp_path: Path) -> None:
    table = attribute(run.path, step=1, tasks=["names"])
    outside = table[table["layer"] == OutsideTensor.layer]
    live = LiveModel(run, CPU)
    names = {key.name for key in live.merged.keys if isinstance(key, OutsideTensor)}
    assert set(outside["matrix"]) == names
    assert outside["value"].abs().sum() > 0
    assert table["converged"].all()
    ends = Ends(0, 1)
    restoration = Restoration(live, ends, [])
    everything = {key.name: 1.0 for key in live.merged.keys}
    out = export_restored(restoration, everything, pd.DataFrame(), tmp_path / "out")
    base = tiny.tensors(run.file.base.path)
    assert all(torch.equal(base[name], tensor) for name, tensor in tiny.tensors(out).items())


def test_studies_score_the_same_model(inputs: Inputs, run: RunStore, tmp_path: Path) -> None:
    """Without an update: as a run that never had it. Another gate: the scores of the run where it is the same."""
    changes = {"outside": run.settings.continual.outside, "eta": 0.6}
    frame = leave_one_out(run.path, on=CPU, workers=1)
    rest = finish(replace(inputs, updates=inputs.updates[1:]), tmp_path / "rest", "gcwm", **changes)
    scores = pd.read_parquet(rest.path / "tables" / "scores.parquet")
    last = scores[(scores["model"] == "step") & (scores["step"] == 2)].set_index(["task", "split", "metric"])
    found = frame[frame["left_out"] == inputs.updates[0][0]].set_index(["task", "split", "metric"])
    assert found["value"].to_list() == last["value"].reindex(found.index).to_list()
    every = pd.read_parquet(run.path / "tables" / "scores.parquet")
    own = every[(every["model"] == "step") & (every["step"] == 3)].set_index(["task", "split", "metric"])["value"]
    for row in regate(run, {"tau": 0.5}, CPU)["scores"]:
        assert row["as_run"] == own[row["task"], row["split"], row["metric"]]


def test_the_search_for_eta_scores_the_model_that_the_run_then_has(inputs: Inputs, tmp_path: Path) -> None:
    updates = [part for name, folder in inputs.updates for part in ("--update", f"{name}={folder}")]
    given = ["--base", str(inputs.base), *updates, "--probes", str(inputs.probes), "--device", "cpu"]
    out = tmp_path / "run"
    assert main(["run", *given, "--outside", "sum", "--eta", "auto", "--workers", "1", "--out", str(out)]) == 0
    store = RunStore.open(out)
    assert store.settings.continual.outside == "sum"
    searched = pd.read_parquet(out / "tables" / "strength.parquet")
    assert main(["score", str(out), "--replace", "--device", "cpu", "--workers", "1"]) == 0
    again = pd.read_parquet(out / "tables" / "strength.parquet")
    # η times a rounded ratio is the η that was tried up to six digits.
    pd.testing.assert_frame_equal(searched, again, rtol=1e-3)


def test_what_knows_the_matrices_alone_refuses(run: RunStore, inputs: Inputs, tmp_path: Path) -> None:
    for work in (
        lambda: calibrate(run.path),
        lambda: predict(run.path),
        lambda: measure(run.path, [{"sums": 1.0}]),
        lambda: export_adapter(run, 3, tmp_path / "lora", 2),
    ):
        with pytest.raises(InputError, match="merges what lies outside its target matrices too"):
            work()
    described = replace(inputs, states=write_states(tmp_path, inputs))
    settings = RunSettings.preset_with("scale-free", {"outside": "sum"}, "gcwm")
    with pytest.raises(InputError, match="described whole, not merged: expected outside=keep beside them"):
        create_run(described, tmp_path / "described", settings)


# Other vocabularies


def tokenizer(folder: Path, tokens: list[str]) -> None:
    content = {"model": {"vocab": {token: number for number, token in enumerate(tokens)}}}
    (folder / FILE).write_text(json.dumps(content))


def test_rows_are_merged_by_token_where_tokenizers_differ(tmp_path: Path) -> None:
    """The update has the base's tokens in another order, without two of them and with three of its own."""
    base = CheckpointIndex.open(tiny.save(tiny.model("qwen3-untied"), tmp_path / "base"))
    tokens = [f"t{number}" for number in range(40)]
    own = [*reversed(tokens[2:]), "x", "y", "z"]
    tokenizer(base.root, tokens)
    content = tiny.tensors(base.root)
    tables = ("model.embed_tokens.weight", "lm_head.weight")
    change = {name: torch.randn(40, 16, generator=torch.Generator().manual_seed(1)) for name in tables}
    rows = [tokens.index(token) if token in tokens else 0 for token in own]
    moved = {name: (content[name] + change[name])[rows] for name in tables}
    expert = tiny.store(tmp_path / "x", content | moved)
    (expert / "config.json").write_text(json.dumps(base.config))
    tokenizer(expert, own)
    source: Any = open_update("x", expert, base)
    assert set(tables) <= set(source.outside_names([]))
    for name in tables:
        expected = change[name].clone()
        expected[:2] = 0  # the tokens that the update lacks keep the base's rows
        torch.testing.assert_close(source.outside_change(name), expected)


@pytest.mark.parametrize("rows", [48, 32])
def test_a_resized_table_is_merged_in_the_rows_that_both_have(rows: int, tmp_path: Path) -> None:
    base = CheckpointIndex.open(tiny.save(tiny.model("qwen3"), tmp_path / "base"))
    name, content = "model.embed_tokens.weight", tiny.tensors(base.root)
    table: Tensor = torch.randn(rows, 16, generator=torch.Generator().manual_seed(1))
    source = open_update("x", tiny.store(tmp_path / "x", content | {name: table}), base)
    both, expected = min(rows, 40), torch.zeros(40, 16)
    expected[:both] = table[:both] - content[name][:both]
    assert torch.equal(source.outside_change(name), expected)
