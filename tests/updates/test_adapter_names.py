"""Adapters as peft means them: under the names of their base, with whole matrices and single tokens beside factors."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.outside import outside_share
from gcwm_viz.updates.pairing import open_update, plan, target_matrices
from tests.checkpoints import tiny

Q0 = "model.layers.0.self_attn.q_proj.weight"
K1 = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.parametrize("adapted", ["all of the name", "the language model's"])
@pytest.mark.parametrize("name", ["gemma3-vision", "llava"])
def test_an_adapter_finds_the_language_model_beside_a_vision_tower(tmp_path: Path, name: str, adapted: str) -> None:
    """peft's names follow the model in memory, the base's its checkpoint; the tower has blocks of the same names."""
    index = CheckpointIndex.open(tiny.save(tiny.model(name), tmp_path / "base"))
    pattern = r".*language_model.*\.(q_proj|v_proj)" if adapted.startswith("the") else ["q_proj", "v_proj"]
    folder, before, merged = tiny.lora(name, tmp_path / "adapter", r=2, target_modules=pattern)
    keys = target_matrices(index)
    source: Any = open_update("x", folder, index)
    found = plan(index, [source])
    assert [key.family for key in source.touched(keys)] == ["q_proj", "v_proj"] * 2
    assert found.coverage[0]["extra"] == 0
    assert found.coverage[0]["ignored"] == (0 if adapted.startswith("the") else 4)
    for key in source.touched(keys):
        tail = key.name[key.name.index("layers.") :]
        (inside,) = (other for other in merged if other.endswith(tail) and "language_model" in other)
        torch.testing.assert_close(dense(source.delta(key)), merged[inside] - before[inside], rtol=1e-4, atol=1e-5)


def test_a_head_that_the_language_model_has_inside(tmp_path: Path) -> None:
    index = CheckpointIndex.open(tiny.save(tiny.model("llava"), tmp_path / "base"))
    folder, _, _ = tiny.lora(
        "llava", tmp_path / "adapter", r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "linear_1"]
    )
    source = open_update("x", folder, index)
    assert {name for name in source.others() if "vision" not in name} == {
        "language_model.lm_head.weight",
        "multi_modal_projector.linear_1.weight",
        "multi_modal_projector.linear_1.bias",
    }
    assert plan(index, [source]).coverage[0]["extra"] == 0


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod."])
def test_what_wrapped_the_model_is_no_part_of_a_name(tmp_path: Path, wrapper: str) -> None:
    """DistributedDataParallel and torch.compile put a prefix before every name, the head's and the norms' too."""
    index = CheckpointIndex.open(tiny.save(tiny.model("qwen3-untied"), tmp_path / "base"))
    content = {wrapper + name: tensor + 0.1 for name, tensor in tiny.tensors(index.root).items()}
    tiny.store(tmp_path / "full", content)
    (tmp_path / "full" / "config.json").write_text(json.dumps(index.config))
    full = plan(index, [open_update("x", tmp_path / "full", index)])
    assert (full.coverage[0]["matrices"], full.coverage[0]["extra"], full.warnings) == (14, 0, [])

    folder, _, _ = tiny.lora(
        "qwen3-untied", tmp_path / "adapter", r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]
    )
    plain = load_file(folder / "adapter_model.safetensors")
    expected = plan(index, [open_update("x", folder, index)]).coverage[0]
    assert (expected["matrices"], expected["ignored"], expected["extra"]) == (2, 1, 0)
    inner = f"base_model.model.{wrapper}"
    for renamed in (
        {wrapper + name: tensor for name, tensor in plain.items()},
        {name.replace("base_model.model.", inner): tensor for name, tensor in plain.items()},
    ):
        tiny.store(folder, renamed, "adapter_model.safetensors")
        found = plan(index, [open_update("x", folder, index)]).coverage[0]
        assert {**found, "path": ""} == {**expected, "path": ""}


@pytest.mark.parametrize(("name", "adapted", "whole"), [("qwen3", "q_proj", "down_proj"), ("gpt2", "c_attn", "c_fc")])
def test_a_matrix_that_an_adapter_stores_whole(tmp_path: Path, name: str, adapted: str, whole: str) -> None:
    """modules_to_save of a target is a dense update of it, beside the factors of the others; peft is the oracle."""
    index = CheckpointIndex.open(tiny.save(tiny.model(name), tmp_path / "base"))
    folder, before, merged = tiny.lora(
        name, tmp_path / "a", r=2, target_modules=[adapted], modules_to_save=[whole], fan_in_fan_out=name == "gpt2"
    )
    source, keys = open_update("x", folder, index), target_matrices(index)
    assert {key.family for key in source.touched(keys)} == {adapted, whole}
    inside = 0.0
    for key in source.touched(keys):
        change = merged[key.name] - before[key.name]
        delta = source.delta(key)
        assert delta is not None
        assert isinstance(delta, LowRank) == (key.family == adapted)
        assert source.rank(key) == (2 if key.family == adapted else None)
        assert source.nbytes(key) > 0
        torch.testing.assert_close(key.from_linear(dense(delta)), change, rtol=1e-4, atol=1e-5)
        inside += float(change.double().square().sum())
    total = sum(float((merged[tensor] - before[tensor]).double().square().sum()) for tensor in before)
    found = outside_share(index, source, keys)
    assert found["target_norm"] == pytest.approx(math.sqrt(inside), rel=1e-5)
    assert found["outside_share"] == pytest.approx(1 - inside / total, abs=1e-6)
    spoilt = load_file(folder / "adapter_model.safetensors")
    stored = next(tensor for tensor in spoilt if tensor.endswith(f"{whole}.weight"))
    tiny.store(folder, spoilt | {stored: torch.zeros(3, 3)}, "adapter_model.safetensors")
    with pytest.raises(InputError, match=rf"{whole}.weight' has shape \(3, 3\), expected"):
        plan(index, [open_update("x", folder, index)])


def test_what_an_adapter_stores_whole_replaces_the_checkpoint_it_was_trained_on(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path
) -> None:
    content = {name: tensor + (0.1 if name in (Q0, K1) else 0) for name, tensor in tiny.tensors(base.root).items()}
    tiny.store(tmp_path / "model", content)
    (tmp_path / "model" / "config.json").write_text(json.dumps(base.config))
    folder, _, merged = tiny.lora("qwen3", tmp_path / "a", r=2, target_modules=["q_proj"], modules_to_save=["k_proj"])
    stacked: Any = open_update("x", f"{tmp_path / 'model'}+{folder}", base)
    original = tiny.tensors(base.root)
    for key in keys:
        if key.family == "k_proj":
            stacked.check(key)
            torch.testing.assert_close(stacked.delta(key), merged[key.name] - original[key.name])
    adapted = stacked.delta(keys[0]) - (content[Q0] - original[Q0])
    torch.testing.assert_close(adapted, merged[Q0] - original[Q0], rtol=1e-4, atol=1e-5)
    squares = sum(float(stacked.delta(key).square().sum()) for key in keys if stacked.delta(key) is not None)
    assert outside_share(base, stacked, keys)["target_norm"] == pytest.approx(math.sqrt(squares), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "tokens"), [("qwen3", [3, 5]), ("qwen3-untied", {"embed_tokens": [7, 3], "lm_head": [4]})]
)
def test_single_trained_tokens_count_as_outside(
    tmp_path: Path, name: str, tokens: list[int] | dict[str, list[int]]
) -> None:
    index = CheckpointIndex.open(tiny.save(tiny.model(name), tmp_path / "base"))
    folder, before, merged = tiny.lora(
        name, tmp_path / "a", r=2, target_modules=["q_proj"], trainable_token_indices=tokens
    )
    squares = {tensor: float((merged[tensor] - before[tensor]).double().square().sum()) for tensor in index.tensors}
    total = sum(squares.values())
    found = outside_share(index, open_update("x", folder, index), target_matrices(index))
    assert found["total_norm"] == pytest.approx(math.sqrt(total), rel=1e-5)
    assert found["outside_embeddings"] == pytest.approx(squares["model.embed_tokens.weight"] / total, rel=1e-5)
    assert found["outside_head"] == pytest.approx(squares.get("lm_head.weight", 0) / total, rel=1e-5)
    assert found["outside_embeddings"] > 0.001
    assert "model.embed_tokens.weight" in plan(index, [open_update("x", folder, index)]).updates[0].ignored


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([3], "expected as many distinct trainable_token_indices"),
        ([3, 3], "expected as many distinct trainable_token_indices"),
        ([3, "5"], "expected as many distinct trainable_token_indices"),
        (None, "expected as many distinct trainable_token_indices"),
        ([3, 40], r"values for rows up to 40, the base's 'model.embed_tokens.weight' has shape \(40, 16\)"),
    ],
)
def test_token_rows_that_the_config_does_not_name(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path, tokens: list[Any] | None, says: str
) -> None:
    folder, _, _ = tiny.lora("qwen3", tmp_path, r=2, target_modules=["q_proj"], trainable_token_indices=[3, 5])
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"trainable_token_indices": tokens}))
    with pytest.raises(InputError, match=says):
        outside_share(base, open_update("x", folder, base), keys)


def test_a_layer_stored_whole_under_its_factors(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    """peft stores a wrapped layer's own weight as base_layer: both changes count."""
    folder, _, _ = tiny.lora("qwen3", tmp_path, r=2, target_modules=["q_proj"])
    given: Any = open_update("x", folder, base)
    alone = dense(given.delta(keys[0]))
    content = load_file(folder / "adapter_model.safetensors")
    content[f"base_model.model.{Q0.replace('.weight', '.base_layer.weight')}"] = tiny.tensors(base.root)[Q0] + 0.5
    tiny.store(folder, content, "adapter_model.safetensors")
    source = open_update("x", folder, base)
    assert source.rank(keys[0]) is None
    torch.testing.assert_close(source.delta(keys[0]), alone + 0.5, rtol=1e-6, atol=1e-6)
    assert source.others() == {}
