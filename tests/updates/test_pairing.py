import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gcwm_viz.checkpoints.header import TensorInfo
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.reader import read_tensor
from gcwm_viz.errors import InputError
from gcwm_viz.updates.pairing import open_update, plan, target_matrices
from gcwm_viz.updates.source import UpdateSource
from tests.checkpoints import tiny

Q0 = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def expert(base: CheckpointIndex, tmp_path: Path) -> UpdateSource:
    return open_update("expert", tiny.save(tiny.model("qwen3", seed=1), tmp_path / "expert"), base)


@pytest.fixture
def adapter(base: CheckpointIndex, tmp_path: Path) -> UpdateSource:
    return open_update("adapter", tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=["q_proj"])[0], base)


def test_plan_reads_headers_and_one_matrix_of_an_adapter(
    base: CheckpointIndex, expert: UpdateSource, adapter: UpdateSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("gcwm_viz.updates.sources.read_tensor", refuse)
    read: list[str] = []

    def count(info: TensorInfo) -> torch.Tensor:
        read.append(info.name)
        return read_tensor(info)

    monkeypatch.setattr("gcwm_viz.checkpoints.lora.read_tensor", count)
    found = plan(base, [expert, adapter])
    assert len(read) == len({name.partition(".lora_")[0] for name in read}) * 2 == 2
    assert found.keys == found.active == target_matrices(base)
    assert found.parameters == sum(key.parameters for key in found.keys)
    rows: list[dict[str, Any]] = found.coverage
    assert [(row["update"], row["kind"], row["matrices"], row["missing"]) for row in rows] == [
        ("expert", "checkpoint", 14, 0),
        ("adapter", "adapter", 2, 12),
    ]
    assert rows[0]["bytes_to_read"] == 2 * 4 * found.parameters
    assert found.bytes_to_read == sum(row["bytes_to_read"] for row in rows)
    assert found.families[0] == {"family": "q_proj", "d_out": 16, "d_in": 16, "matrices": 2, "expert": 2, "adapter": 2}
    assert found.families[1]["adapter"] == 0
    assert any("adapter: 12 of 14 target matrices are not in it" in note for note in found.notes)
    assert found.warnings == []


def test_matrices_no_update_touches_are_noted(base: CheckpointIndex, adapter: UpdateSource) -> None:
    found = plan(base, [adapter])
    assert [key.family for key in found.active] == ["q_proj", "q_proj"]
    assert "12 of 14 target matrices are touched by no update and stay" in found.notes


def test_resized_vocabulary_and_extra_tensors_are_listed_not_refused(base: CheckpointIndex, tmp_path: Path) -> None:
    content = {name: tensor + 0.1 for name, tensor in tiny.tensors(base.root).items()}
    content["model.embed_tokens.weight"] = torch.zeros(48, 16)
    content["lm_head.weight"] = torch.zeros(48, 16)
    del content["model.layers.1.mlp.up_proj.weight"]
    found = plan(base, [open_update("x", tiny.store(tmp_path, content), base)])
    (coverage,) = found.updates
    assert coverage.resized == [("model.embed_tokens.weight", (48, 16), (40, 16))]
    assert coverage.extra == ["lm_head.weight"]
    assert coverage.missing == ["model.layers.1.mlp.up_proj.weight"]
    assert any("(48, 16), the base (40, 16)" in note for note in found.notes)
    assert any("lm_head.weight" in note for note in found.notes)
    assert any("up_proj" in warning for warning in found.warnings)
    assert any("no config.json" in warning for warning in found.warnings)


def test_shape_mismatch_shows_both_shapes(base: CheckpointIndex, tmp_path: Path) -> None:
    content = {**tiny.tensors(base.root), Q0: torch.zeros(16, 12)}
    source = open_update("x", tiny.store(tmp_path, content), base)
    for call in (lambda: plan(base, [source]), lambda: source.delta(target_matrices(base)[0])):
        with pytest.raises(
            InputError, match=rf"tensor '{Q0}' has shape \(16, 12\), expected \(16, 16\) as in "
        ) as caught:
            call()
        assert str(tmp_path) in str(caught.value)
        assert str(base.root) in str(caught.value)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_another_architecture(base: CheckpointIndex, tmp_path: Path, name: str) -> None:
    source = open_update("x", tiny.save(tiny.model(name), tmp_path), base)
    with pytest.raises(InputError, match=r"config.json: another architecture, expected model_type 'qwen3'"):
        plan(base, [source])
    (tmp_path / "config.json").unlink()
    if name != "llama":  # whose tensor names are the same
        with pytest.raises(
            InputError, match=r"another architecture, expected the base's tensor '.*', found '.*' instead"
        ):
            plan(base, [open_update("x", tmp_path, base)])


def test_another_number_of_layers(base: CheckpointIndex, tmp_path: Path, expert: UpdateSource) -> None:
    file = expert.path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"another architecture, expected num_hidden_layers 2 .* found 3"):
        plan(base, [open_update("x", expert.path, base)])


def test_adapter_for_another_base_by_its_modules(base: CheckpointIndex, tmp_path: Path) -> None:
    folder, _, _ = tiny.lora("gpt2", tmp_path, r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(InputError, match=r"adapter is for another base: tensor '.*c_attn.lora_A.weight' adapts"):
        plan(base, [open_update("x", folder, base)])


def test_adapter_for_another_base_by_its_shapes(base: CheckpointIndex, tmp_path: Path, adapter: UpdateSource) -> None:
    file = adapter.path / "adapter_model.safetensors"
    content = load_file(file)
    name = next(name for name in content if "lora_A" in name)
    tiny.store(adapter.path, {**content, name: torch.zeros(2, 20)}, file.name)
    with pytest.raises(InputError, match=r"adapter is for another base: .* has shape \(16, 20\), expected \(16, 16\)"):
        plan(base, [open_update("x", adapter.path, base)])


def test_adapter_on_nothing_but_the_head(tmp_path: Path) -> None:
    index = CheckpointIndex.open(tiny.save(tiny.model("qwen3-untied"), tmp_path / "base"))
    folder, _, _ = tiny.lora("qwen3-untied", tmp_path / "adapter", r=2, target_modules=["lm_head"])
    with pytest.raises(InputError, match="the update 'x' touches no target matrix"):
        plan(index, [open_update("x", folder, index)])


def test_update_tensors_that_touch_no_target(base: CheckpointIndex, tmp_path: Path) -> None:
    folder = tiny.store(tmp_path, {"model.norm.weight": torch.ones(16)}, gcwm_viz="update")
    with pytest.raises(InputError, match=r"touches no target matrix.*found 'model.norm.weight'"):
        plan(base, [open_update("x", folder, base)])


def test_names_are_taken_once_and_folders_noticed(base: CheckpointIndex, expert: UpdateSource) -> None:
    again = open_update("expert", expert.path, base)
    with pytest.raises(InputError, match="update name 'expert' is already taken"):
        plan(base, [expert, again])
    twice = plan(base, [expert, open_update("other", expert.path, base)])
    assert any("other and expert are the same folder" in warning for warning in twice.warnings)


def test_no_update_at_all(base: CheckpointIndex) -> None:
    with pytest.raises(InputError, match="expected at least one update"):
        plan(base, [])


def test_lora_factors_without_their_config(base: CheckpointIndex, adapter: UpdateSource) -> None:
    (adapter.path / "adapter_config.json").unlink()
    with pytest.raises(InputError, match=r"adapter_config.json: missing"):
        open_update("x", adapter.path, base)
