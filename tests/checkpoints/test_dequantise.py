"""Quantised checkpoints as ones that can be merged, against transformers' own dequantisation."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, FineGrainedFP8Config, GptOssConfig
from transformers.integrations.mxfp4 import convert_moe_packed_tensors
from transformers.utils.quantization_config import Mxfp4Config

from gcwm_viz.checkpoints.dequantise import dequantise
from gcwm_viz.checkpoints.float8 import dequantised
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.errors import InputError
from gcwm_viz.updates.pairing import target_matrices
from tests.checkpoints import tiny

BLOCK = (8, 4)


def quantised(folder: Path, scales: str = "weight_scale_inv") -> tuple[Path, dict[str, Tensor]]:
    """A tiny checkpoint whose linear weights are 8-bit floats with a scale for each block, and its exact values."""
    tiny.save(tiny.model("qwen3").to(torch.bfloat16), folder)
    content, values = tiny.tensors(folder), {}
    for key in target_matrices(CheckpointIndex.open(folder)):
        weight = content[key.name].float()
        rows, columns = (size // block for size, block in zip(weight.shape, BLOCK, strict=True))
        tiles = weight.reshape(rows, BLOCK[0], columns, BLOCK[1])
        factor = tiles.abs().amax(dim=(1, 3)) / 448  # the largest number of e4m3
        codes = (tiles / factor[:, None, :, None]).to(torch.float8_e4m3fn)
        values[key.name] = (codes.float() * factor[:, None, :, None]).reshape(weight.shape)
        content[key.name] = codes.reshape(weight.shape)
        content[key.name.replace("weight", scales)] = factor
    tiny.store(folder, content)
    _mark(folder, {"quant_method": "fp8", "weight_block_size": list(BLOCK)})
    return folder, values


def _mark(folder: Path, settings: dict[str, Any]) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": settings}))


def test_8_bit_floats_become_the_values_that_they_stand_for(tmp_path: Path) -> None:
    folder, values = quantised(tmp_path / "fp8")
    out = dequantise(folder, tmp_path / "out", torch.float32)
    stored = tiny.tensors(out)
    for name, value in values.items():
        assert torch.equal(stored[name], value)
    assert not any("scale" in name for name in stored)
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=FineGrainedFP8Config(dequantize=True), dtype=torch.float32
    )
    ours = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter)


@pytest.mark.parametrize(
    ("shape", "scale"), [((6, 8), (1,)), ((6, 8), ()), ((6, 8), (6, 1)), ((6, 8), (2, 3)), ((200, 130), (2, 2))]
)
def test_a_scale_is_of_a_tensor_a_row_or_a_block(
    tmp_path: Path, shape: tuple[int, int], scale: tuple[int, ...]
) -> None:
    """Blocks of 128 × 128 by ceiling; other grids divide the weight evenly, the last block being the smaller one."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(shape, generator=generator).to(torch.float8_e4m3fn)
    factors = torch.rand(scale, generator=generator) + 0.5
    tiny.store(tmp_path, {"layers.0.up.weight": codes, "layers.0.up.weight_scale": factors})
    index = CheckpointIndex.open(tmp_path)
    found = dequantised(index.tensors["layers.0.up.weight"], index)
    for row in range(0, shape[0], 5):
        for column in range(0, shape[1], 3):
            grid = factors.reshape(1, 1) if factors.numel() == 1 else factors
            at = [i // -(-size // count) for i, size, count in zip((row, column), shape, grid.shape, strict=True)]
            assert found[row, column] == codes[row, column].float() * grid[*at]


def test_packed_experts_become_stacks(tmp_path: Path) -> None:
    config = GptOssConfig(
        vocab_size=32, hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, num_local_experts=3, num_experts_per_tok=2,
    )  # fmt: skip
    torch.manual_seed(1)
    folder = tiny.save(AutoModelForCausalLM.from_config(config).to(torch.bfloat16), tmp_path / "mxfp4")
    content, stacks = tiny.tensors(folder), {}
    for name in [name for name in content if name.endswith(("gate_up_proj", "down_proj"))]:
        experts, d_in, d_out = content.pop(name).shape
        blocks = torch.randint(256, (experts, d_out, d_in // 32, 16), dtype=torch.uint8)
        scales = torch.randint(118, 124, (experts, d_out, d_in // 32), dtype=torch.uint8)
        content |= {f"{name}_blocks": blocks, f"{name}_scales": scales}
        stacks[name] = convert_moe_packed_tensors(blocks, scales)
        assert stacks[name].shape == (experts, d_in, d_out)
    tiny.store(folder, content)
    _mark(folder, {"quant_method": "mxfp4"})
    with pytest.raises(InputError, match=r"dequantise them first with `gcwm-viz dequantise .*mxfp4 --out"):
        target_matrices(CheckpointIndex.open(folder))
    out = dequantise(folder, tmp_path / "out")
    stored = tiny.tensors(out)
    assert stored.keys() == {*stacks, *(name for name in content if not name.endswith(("_blocks", "_scales")))}
    for name, stack in stacks.items():
        assert torch.equal(stored[name], stack)
    theirs = AutoModelForCausalLM.from_pretrained(folder, quantization_config=Mxfp4Config(dequantize=True))
    ours, ids = AutoModelForCausalLM.from_pretrained(out), torch.arange(8)[None]
    assert torch.equal(ours(ids).logits, theirs(ids).logits)


def test_what_cannot_be_dequantised_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = tiny.save(tiny.model("qwen3"), tmp_path / "plain")
    assert main(["dequantise", str(plain), "--out", str(tmp_path / "out")]) == 2
    assert "these weights are not quantised, expected tensors of dtype F8_E4M3 or F8_E5M2" in capsys.readouterr().err
    module = "model.layers.0.mlp.up_proj"
    content = tiny.tensors(plain)
    cases = {
        "has no scale": {f"{module}.weight": content[f"{module}.weight"].to(torch.float8_e4m3fn)},
        r"\(gptq, tensor": {f"{module}.qweight": torch.zeros(2, 24, dtype=torch.int32)},
    }
    cases["expected a scale for each block, row or whole"] = {f"{module}.weight_scale_inv": torch.ones(7, 1)} | cases[
        "has no scale"
    ]
    for place, (message, changed) in enumerate(cases.items()):
        folder = tiny.store(tmp_path / str(place), content | changed)
        (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "gptq"}}))
        with pytest.raises(InputError, match=message):
            dequantise(folder, tmp_path / "never")
    assert not (tmp_path / "never").exists()
    (tmp_path / "two").mkdir()
    for name in "ab":
        (tmp_path / "two" / f"{name}.gguf").write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"expected one GGUF file, found a\.gguf, b\.gguf"):
        dequantise(tmp_path / "two", tmp_path / "never")
