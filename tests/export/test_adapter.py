"""The merged update as an adapter: peft loads it and gives the dense export's weights, short of what is stated."""

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.continual.store import RunStore
from gcwm_viz.errors import InputError
from gcwm_viz.export.adapter import export_adapter, truncated
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.updates.sources import open_update
from tests.checkpoints import tiny
from tests.export import runs
from tests.rounding import rounding

NOTHING = 2 * rounding(64)
"""Rounding of the energies of matrices up to 64 wide; what single precision leaves outside the rank is its square."""
NAMES = ["qwen3", "llama", "gpt2", "gpt-neox", "phi3", "qwen3-moe", "mixtral", "bamba"]


def loaded(base: str | Path, adapter: Path) -> Any:
    """Weights of base + adapter as peft merges them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft and transformers disagree about deprecated names
        model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
        return model.merge_and_unload().eval()


@pytest.fixture(params=NAMES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    """Two updates of rank 2 each: their merge has rank 4 at most."""
    index = runs.base(tmp_path, request.param)
    return runs.finished(
        index, runs.experts(index, tmp_path, torch.float32, rank=2), tmp_path / "run", "task-arithmetic"
    )


def test_exact_at_the_true_rank(run: RunStore, tmp_path: Path) -> None:
    loss = export_adapter(run, 2, tmp_path / "adapter", 4)
    assert loss.total <= loss.worst < NOTHING
    base = run.file.base.where
    dense = AutoModelForCausalLM.from_pretrained(export_step(run, 2, tmp_path / "dense")).eval()
    merged = loaded(base, tmp_path / "adapter")
    for (name, expected), (other, found) in zip(dense.named_parameters(), merged.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    tokens = torch.arange(3, 9)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(tokens).logits, dense(tokens).logits, rtol=1e-4, atol=1e-5)


def test_what_a_lower_rank_leaves_out_is_what_is_stated(run: RunStore, tmp_path: Path) -> None:
    loss = export_adapter(run, 2, tmp_path / "adapter", 1)
    index: Any = open_update("x", tmp_path / "adapter", CheckpointIndex.open(run.file.base.where))
    shares, lost, energy = {}, 0.0, 0.0
    for place, key in enumerate(run.keys):
        state = run.state(place, 2).double()
        missed = float((state - index.delta(key, torch.float64).dense()).square().sum())
        singular = torch.linalg.svdvals(state).square()
        assert missed == pytest.approx(float(singular[1:].sum()), rel=1e-5)  # Eckart and Young
        shares[key.name] = missed / float(singular.sum())
        lost, energy = lost + missed, energy + float(singular.sum())
    assert loss.total == pytest.approx(lost / energy, rel=1e-5)
    assert loss.worst == pytest.approx(max(shares.values()), rel=1e-5)
    assert loss.worst_matrix == max(shares, key=shares.__getitem__)


def test_an_adapter_of_an_adapter_run_goes_round(tmp_path: Path) -> None:
    """A single LoRA update at η 1 comes back as itself."""
    index = runs.base(tmp_path, "qwen3")
    given, _, _ = tiny.lora("qwen3", tmp_path / "given", r=2, target_modules=["q_proj", "down_proj"])
    run = runs.finished(index, [("one", given)], tmp_path / "run", "task-arithmetic")
    assert export_adapter(run, 1, tmp_path / "adapter", 2).total < NOTHING
    first: Any
    second: Any
    first, second = (open_update("x", folder, index) for folder in (given, tmp_path / "adapter"))
    assert first.touched(run.keys) == second.touched(run.keys) == run.keys
    for key in run.keys:
        torch.testing.assert_close(second.delta(key).dense(), first.delta(key).dense(), rtol=1e-4, atol=1e-5)


def test_a_rank_above_a_matrix_is_filled_with_zeros() -> None:
    state = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    b_or, a_ri = truncated(state, 5)
    assert (b_or.shape, a_ri.shape) == ((6, 5), (5, 3))
    torch.testing.assert_close(b_or @ a_ri, state.double(), rtol=0, atol=3 * rounding(6) * float(state.norm()))


def test_a_rank_above_every_matrix_is_their_width(tmp_path: Path) -> None:
    index = runs.base(tmp_path, "llama")
    run = runs.finished(index, runs.experts(index, tmp_path, torch.float32), tmp_path / "run", "task-arithmetic")
    widest = max(min(key.shape) for key in run.keys)
    loss = export_adapter(run, 2, tmp_path / "adapter", 1000)
    assert (loss.rank, loss.asked) == (widest, 1000)
    assert loss.words.startswith(f"rank {widest} (asked for 1000, but no matrix has more) leaves out 0.000%")
    config = peft.PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    assert config.r == config.lora_alpha == widest
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {widest}
    full = loaded(run.file.base.where, tmp_path / "adapter").state_dict()
    dense = AutoModelForCausalLM.from_pretrained(export_step(run, 2, tmp_path / "dense")).state_dict()
    for key in run.keys:
        torch.testing.assert_close(full[key.name], dense[key.name], rtol=1e-5, atol=1e-6)


def test_the_command_states_the_loss_on_stdout_and_in_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = runs.base(tmp_path, "llama")
    updates = runs.experts(index, tmp_path, torch.float32)
    run = runs.finished(index, updates, tmp_path / "run", "task-arithmetic")
    out = tmp_path / "adapter"
    assert main(["export", str(run.path), "--as-adapter", "--rank", "3", "--dtype", "bfloat16", "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("rank 3 leaves out ")
    card = (out / "README.md").read_text()
    assert said in card
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == run.file.base.where
    assert (front["library_name"], front["license"], front["base_model_relation"]) == ("peft", "apache-2.0", "adapter")
    assert {tensor.dtype for tensor in load_file(out / "adapter_model.safetensors").values()} == {torch.bfloat16}
    config = json.loads((out / "adapter_config.json").read_text())
    assert peft.PeftConfig.from_pretrained(str(out)).r == config["r"] == config["lora_alpha"] == 3


def test_experts_come_all_or_none(tmp_path: Path) -> None:
    """PEFT stacks the experts' factors, so it needs those whose update is zero too, and takes an adapter of none."""
    index = runs.base(tmp_path, "qwen3-moe")
    original = tiny.tensors(index.root)
    one, other = "model.layers.1.mlp.experts.2.up_proj.weight", "model.layers.0.self_attn.q_proj.weight"
    for names, experts in (((one, other), 2 * 3 * 3), ((other,), 0)):
        folder = tmp_path / f"{experts}"
        folder.mkdir()
        (folder / "update.json").write_text('{"format": "gcwm_viz.update"}')
        tiny.store(folder, {name: 0.1 * torch.ones_like(original[name]) for name in names})
        run = runs.finished(index, [("x", folder)], tmp_path / f"run {experts}", "task-arithmetic")
        adapter = tmp_path / f"adapter {experts}"
        export_adapter(run, 1, adapter, 2)
        held = load_file(adapter / "adapter_model.safetensors")
        assert sum(".experts." in name for name in held) == 2 * experts
        merged = dict(loaded(index.root, adapter).named_parameters())
        dense = AutoModelForCausalLM.from_pretrained(export_step(run, 1, tmp_path / f"dense {experts}"))
        for name, expected in dense.named_parameters():
            torch.testing.assert_close(merged[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("deepseek-v3", r"experts.0.gate_proj.weight' is no module of its own .* whole checkpoint"),
        ("mamba2", r"PEFT does not adapt 'backbone.layers.0.mixer.out_proj.weight' of a mamba2 .* whole checkpoint"),
    ],
)
def test_a_matrix_that_no_adapter_can_hold(tmp_path: Path, name: str, says: str) -> None:
    index = runs.base(tmp_path, name)
    run = runs.finished(index, runs.experts(index, tmp_path, torch.float32), tmp_path / "run", "task-arithmetic")
    with pytest.raises(InputError, match=says):
        export_adapter(run, 2, tmp_path / "out", 2)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_an_adapter_is_said(tmp_path: Path) -> None:
    index = runs.base(tmp_path, "llama")
    run = runs.finished(index, runs.experts(index, tmp_path, torch.float32), tmp_path / "run", "task-arithmetic")
    with pytest.raises(InputError, match="rank must be at least 1, got 0"):
        export_adapter(run, 2, tmp_path / "out", 0)
    with pytest.raises(InputError, match="lies inside the input"):
        export_adapter(run, 2, index.root / "out", 2)
    with pytest.raises(InputError, match="step must be 1 to 2"):
        export_adapter(run, 3, tmp_path / "out", 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--as-adapter"], "written with --as-adapter --rank R"),
        (["--rank", "4"], "written with --as-adapter --rank R"),
        (["--as-adapter", "--rank", "4", "--mergekit-yaml"], "one form at a time"),
    ],
)
def test_forms_exclude_each_other(
    tmp_path: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    index = runs.base(tmp_path, "llama")
    run = runs.finished(index, runs.experts(index, tmp_path, torch.float32), tmp_path / "run", "task-arithmetic")
    assert main(["export", str(run.path), *arguments, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
