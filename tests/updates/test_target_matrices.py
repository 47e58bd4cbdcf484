from pathlib import Path

import pytest
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank
from gcwm_viz.updates.matrices import MatrixKey, target_matrices
from tests.checkpoints import tiny

LLAMA = [
    ("q_proj", (16, 16)),
    ("k_proj", (8, 16)),
    ("v_proj", (8, 16)),
    ("o_proj", (16, 16)),
    ("gate_proj", (24, 16)),
    ("up_proj", (24, 16)),
    ("down_proj", (16, 24)),
]
EXPERTS = [
    (f"experts.{number}.{name}", shape)
    for number in range(3)
    for name, shape in (("gate_proj", (8, 16)), ("up_proj", (8, 16)), ("down_proj", (16, 8)))
]
EXPECTED = {
    **dict.fromkeys(("qwen3", "qwen3-untied", "qwen2", "llama", "mistral", "gemma"), LLAMA),
    "phi3": [("qkv_proj", (32, 16)), ("o_proj", (16, 16)), ("gate_up_proj", (48, 16)), ("down_proj", (16, 24))],
    "gpt2": [("c_attn", (48, 16)), ("attn.c_proj", (16, 16)), ("c_fc", (64, 16)), ("mlp.c_proj", (16, 64))],
    "gpt-neox": [
        ("query_key_value", (48, 16)),
        ("dense", (16, 16)),
        ("dense_h_to_4h", (24, 16)),
        ("dense_4h_to_h", (16, 24)),
    ],
    "qwen3-moe": [*LLAMA[:4], ("gate", (3, 16)), *EXPERTS],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_linear_weight_of_the_blocks_in_forward_order(tmp_path: Path, name: str) -> None:
    """Families, Linear shapes and order by layer and forward pass; checked against the model's own modules."""
    a_model = tiny.model(name)
    keys = target_matrices(CheckpointIndex.open(tiny.save(a_model, tmp_path)))
    assert [(key.layer, key.family, key.shape) for key in keys] == [
        (layer, *expected) for layer in (0, 1) for expected in EXPECTED[name]
    ]
    assert {key.transposed for key in keys} == {name == "gpt2"}
    if name == "qwen3-moe":
        return  # transformers stacks experts in memory
    modules = {
        f"{path}.weight": (module.nf, module.nx) if hasattr(module, "nf") else (module.out_features, module.in_features)
        for path, module in a_model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D") and any(part.isdecimal() for part in path.split("."))
    }
    assert {key.name: key.shape for key in keys} == modules


def test_layers_are_ordered_as_numbers(tmp_path: Path) -> None:
    content = {f"model.layers.{layer}.mlp.up_proj.weight": torch.zeros(4, 2) for layer in range(12)}
    keys = target_matrices(CheckpointIndex.open(tiny.store(tmp_path, content)))
    assert [key.layer for key in keys] == list(range(12))


def test_layouts_of_a_transposed_matrix() -> None:
    key = MatrixKey("h.0.mlp.c_fc.weight", 0, "c_fc", (6, 4), transposed=True)
    stored = torch.randn(4, 6)
    assert key.to_linear(stored).shape == (6, 4)
    assert torch.equal(key.from_linear(key.to_linear(stored)), stored)
    low = LowRank(torch.randn(6, 2), torch.randn(2, 4))
    assert torch.allclose(key.from_linear(low).dense(), low.dense().mT)
    plain = MatrixKey("x", 0, "x", (6, 4))
    assert plain.to_linear(stored) is stored


def test_what_is_not_a_target(tmp_path: Path) -> None:
    content = {
        "model.layers.0.mlp.up_proj.weight": torch.zeros(4, 2),
        "model.layers.0.norm.weight": torch.zeros(4),
        "model.layers.0.mlp.up_proj.bias": torch.zeros(4),
        "model.layers.0.attn.mask": torch.zeros(4, 2, dtype=torch.uint8),
        "model.layers.0.conv.weight": torch.zeros(4, 2, 3),
        "model.layers.0.attn.relative_attention_bias.weight": torch.zeros(4, 2),
        "model.embed_tokens.weight": torch.zeros(9, 2),
        "vision_tower.layers.0.fc1.weight": torch.zeros(4, 2),
        "lm_head.weight": torch.zeros(9, 2),
    }
    keys = target_matrices(CheckpointIndex.open(tiny.store(tmp_path, content)))
    assert [key.name for key in keys] == ["model.layers.0.mlp.up_proj.weight"]


def test_families_of_another_role_have_another_name(tmp_path: Path) -> None:
    """DeepSeek's first layer has a dense MLP, the others a shared expert beside the experts; all end in gate_proj."""
    keys = target_matrices(CheckpointIndex.open(tiny.save(tiny.model("deepseek-v3"), tmp_path)))
    names = ["gate_proj", "up_proj", "down_proj"]
    dense, sparse = ({key.family for key in keys if key.layer == layer and "proj" in key.family} for layer in (0, 1))
    assert {f"mlp.{name}" for name in names} == dense - sparse
    assert {f"shared_experts.{name}" for name in names} <= sparse
    assert {f"experts.3.{name}" for name in names} <= sparse
    roles = {(key.family, key.name.split(".", 3)[3]) for key in keys}
    assert len(roles) == len({key.family for key in keys})


def test_a_module_right_in_the_block_keeps_its_name(tmp_path: Path) -> None:
    content = {"h.0.up.weight": torch.zeros(4, 2), "h.1.mlp.up.weight": torch.zeros(4, 2)}
    content |= {"h.2.up.weight": torch.zeros(4, 2), "h.3.mlp.up.weight": torch.zeros(4, 2)}
    keys = target_matrices(CheckpointIndex.open(tiny.store(tmp_path, content)))
    assert [key.family for key in keys] == ["up", "mlp.up", "up", "mlp.up"]


def test_a_base_without_blocks_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected 2-D floating weights in decoder blocks .* found none among 1"):
        target_matrices(CheckpointIndex.open(tiny.store(tmp_path / "a", {"lm_head.weight": torch.zeros(2, 2)})))
    folder, _, _ = tiny.lora("qwen3", tmp_path / "b", r=2, target_modules=["q_proj"])
    with pytest.raises(InputError, match="is a LoRA factor, expected a full checkpoint as the base"):
        target_matrices(CheckpointIndex.open(folder))


def test_biases_that_contradict_each_other(tmp_path: Path) -> None:
    content = {
        "h.0.a.weight": torch.zeros(4, 2),
        "h.0.a.bias": torch.zeros(4),
        "h.0.b.weight": torch.zeros(4, 2),
        "h.0.b.bias": torch.zeros(2),
    }
    with pytest.raises(InputError, match="expected one layout"):
        target_matrices(CheckpointIndex.open(tiny.store(tmp_path / "a", content)))
    with pytest.raises(InputError, match=r"'h.0.a.bias' has shape \(7,\)"):
        target_matrices(CheckpointIndex.open(tiny.store(tmp_path / "b", {**content, "h.0.a.bias": torch.zeros(7)})))
