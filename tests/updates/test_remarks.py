"""What ``check`` remarks on inputs that fit by shape and are probably not meant."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.base_name import base_warnings
from gcwm_viz.updates.pairing import open_update, plan, target_matrices
from tests.checkpoints import tiny


def opened(name: str, folder: Path) -> CheckpointIndex:
    return CheckpointIndex.open(tiny.save(tiny.model(name), folder))


def configure(folder: Path, **changes: str | None) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# Another base than the adapter's


@pytest.mark.parametrize(
    ("stated", "folder", "differ"),
    [
        ("meta-llama/Llama-3.2-1B", "Qwen2.5-1.5B", True),
        ("meta-llama/Llama-3.2-1B", "Llama-3.2-1B-Instruct", True),
        ("/root/work/Llama-3.2-1B/", "Qwen2.5-1.5B", True),
        ("meta-llama/Llama-3.2-1B", "llama-3.2-1b", False),
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "Llama-3.2-1B-Instruct", False),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct-b179c9523d0e", False),
        ("C:\\models\\gpt2", "gpt2", False),
        # Nothing to compare: a folder that is called what any model's might be, or no name at all.
        ("meta-llama/Llama-3.2-1B", "base", False),
        ("meta-llama/Llama-3.2-1B", "checkpoint-500", False),
        ("/tmp/model", "Qwen2.5-1.5B", False),
        ("", "Qwen2.5-1.5B", False),
        (None, "Qwen2.5-1.5B", False),
    ],
)
def test_the_name_that_an_adapter_states(tmp_path: Path, stated: str | None, folder: str, differ: bool) -> None:
    base = opened("qwen3", tmp_path / folder)
    adapter, _, _ = tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=["q_proj"])
    configure(adapter, base_model_name_or_path=stated)
    warnings = plan(base, [open_update("x", adapter, base)]).warnings
    if not differ:
        assert warnings == []
        return
    (warning,) = warnings
    assert warning.startswith(f"x: its adapter_config.json names the base {stated!r}, given is {str(base.root)!r}")


def test_the_name_in_the_cache_and_in_the_config_count_too(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--Qwen--Qwen3-0.6B" / "snapshots" / "abc"
    base = opened("qwen3", snapshot)
    assert base_warnings(base, {"base_model_name_or_path": "Qwen/Qwen3-0.6B"}) == []
    assert base_warnings(base, {"base_model_name_or_path": str(snapshot)}) == []
    assert len(base_warnings(base, {"base_model_name_or_path": "Qwen/Qwen3-8B"})) == 1
    shutil.copytree(snapshot, tmp_path / "mine-7")
    config = base.config | {"_name_or_path": "Qwen/Qwen3-0.6B"}
    (tmp_path / "mine-7" / "config.json").write_text(json.dumps(config))
    assert (
        base_warnings(CheckpointIndex.open(tmp_path / "mine-7"), {"base_model_name_or_path": "Qwen/Qwen3-0.6B"}) == []
    )


def test_another_architecture_of_equal_shapes(tmp_path: Path) -> None:
    """Llama's and Mistral's tensors have the same names; what tells the two apart is the class that peft notes."""
    base = opened("mistral", tmp_path / "base")
    adapter, _, _ = tiny.lora("llama", tmp_path / "adapter", r=2, target_modules=["q_proj"])
    (warning,) = plan(base, [open_update("x", adapter, base)]).warnings
    assert "trained on a LlamaForCausalLM, and the base is a 'mistral': its update means nothing there" in warning
    own, _, _ = tiny.lora("mistral", tmp_path / "own", r=2, target_modules=["q_proj"])
    assert plan(base, [open_update("x", own, base)]).warnings == []
    configure(own, task_type="SEQ_2_SEQ_LM", auto_mapping=None)
    (warning,) = plan(base, [open_update("x", own, base)]).warnings
    assert "an encoder-decoder model" in warning
    configure(own, task_type="CAUSAL_LM")
    assert plan(base, [open_update("x", own, base)]).warnings == []


@pytest.mark.parametrize("name", ["gemma3", "gemma3-vision", "llava", "gpt2", "qwen3-moe", "bamba"])
def test_an_adapter_of_the_base_itself_is_not_suspected(tmp_path: Path, name: str) -> None:
    base = opened(name, tmp_path / "base")
    modules = ["c_attn"] if name == "gpt2" else ["q_proj"]
    adapter, _, _ = tiny.lora(name, tmp_path / "a", r=2, target_modules=modules, fan_in_fan_out=name == "gpt2")
    assert json.loads((adapter / "adapter_config.json").read_text())["auto_mapping"]
    assert plan(base, [open_update("x", adapter, base)]).warnings == []


def test_an_adapter_upon_a_checkpoint_names_the_checkpoint(tmp_path: Path) -> None:
    base = opened("qwen3", tmp_path / "Qwen3-0.6B")
    model = tiny.save(tiny.model("qwen3", seed=1), tmp_path / "Tuned-1")
    adapter, _, _ = tiny.lora("qwen3", tmp_path / "a", r=2, target_modules=["q_proj"])
    configure(adapter, base_model_name_or_path="me/tuned-1")
    assert plan(base, [open_update("x", f"{model}+{adapter}", base)]).warnings == []
    assert len(plan(base, [open_update("x", adapter, base)]).warnings) == 1


# Little of the model merged


def test_a_convolution_is_no_stack_of_experts(tmp_path: Path) -> None:
    base = opened("mamba2", tmp_path / "base")
    expert = tiny.save(tiny.model("mamba2", seed=1), tmp_path / "expert")
    assert plan(base, [open_update("x", expert, base)]).warnings == []


def test_most_of_the_blocks_left_out(tmp_path: Path) -> None:
    """Matrices that are no ``.weight``, as some experts are kept, are no targets."""
    content = {f"h.{layer}.attn.weight": torch.zeros(4, 4) for layer in (0, 1)}
    content |= {f"h.{layer}.ffn.w1": torch.ones(8, 4) for layer in (0, 1)} | {"wte.weight": torch.zeros(1000, 4)}
    base = CheckpointIndex.open(tiny.store(tmp_path / "base", content))
    moved = {name: tensor + 1 for name, tensor in content.items()}
    full = open_update("x", tiny.store(tmp_path / "x", moved), base)
    (warning,) = (one for one in plan(base, [full]).warnings if "little is merged" in one)
    assert "hold 32 parameters of the decoder blocks, and 64 that updates hold too" in warning
    assert "(ffn.w1 64)" in warning
    small = tiny.store(tmp_path / "d", {"h.0.attn.weight": torch.ones(4, 4)}, gcwm_viz="update")
    assert plan(base, [open_update("x", small, base)]).warnings == []


@pytest.mark.parametrize("name", ["t5", "bart", "whisper"])
def test_an_encoder_beside_the_decoder(tmp_path: Path, name: str) -> None:
    base = opened(name, tmp_path / "base")
    expert = tiny.save(tiny.model(name, seed=1), tmp_path / "expert")
    (warning,) = plan(base, [open_update("x", expert, base)]).warnings
    encoder = {tensor: info for tensor, info in base.tensors.items() if "encoder" in tensor.split(".")}
    assert warning.startswith("an encoder-decoder model: only blocks of the decoder are merged")
    assert f"{sum(info.parameters for info in encoder.values()):,} parameters" in warning
    keys = target_matrices(base)
    delta = tiny.store(tmp_path / "d", {keys[0].name: torch.ones(keys[0].stored_shape)}, gcwm_viz="update")
    assert plan(base, [open_update("x", delta, base)]).warnings == []


# Not an update


def test_the_base_as_its_own_update(tmp_path: Path) -> None:
    base = opened("qwen3", tmp_path / "base")
    assert plan(base, [open_update("x", base.root, base)]).warnings == ["x: this is the base itself, so Δ is zero"]
    copy = tmp_path / "copy"
    shutil.copytree(base.root, copy)
    (copy / "config.json").write_text(json.dumps(base.config | {"transformers_version": "4.0"}))
    (warning,) = plan(base, [open_update("x", copy, base)]).warnings
    assert warning == "x: its target matrices are the base's, in every byte that was compared: Δ seems to be zero"
    content = tiny.tensors(base.root)
    content[target_matrices(base)[-1].name][0, 0] += 1
    tiny.store(copy, content)
    assert plan(base, [open_update("x", copy, base)]).warnings == []


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "8KB"}])
def test_an_adapter_config_left_in_a_checkpoint(tmp_path: Path, shards: Any) -> None:
    base = opened("qwen3", tmp_path / "base")
    expert = tiny.save(tiny.model("qwen3", seed=1), tmp_path / "expert", **shards)
    (expert / "adapter_config.json").write_text("{}")
    source = open_update("x", expert, base)
    assert source.kind == "checkpoint"
    assert f"x: {expert / 'adapter_config.json'} is left over: the folder is read as" in "\n".join(
        plan(base, [source]).notes
    )
