"""State-space and hybrid blocks: their Linear weights are merged, their convolutions and recurrences named as kept."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.updates.groups import Groups
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.pairing import open_update, plan
from tests.checkpoints import tiny

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
MOE = [f"experts.{number}.{name}" for number in (0, 1) for name in MLP]
QWEN_MOE = ["gate", *(f"experts.{number}.{name}" for number in range(3) for name in MLP), *MLP, "shared_expert_gate"]
FAMILIES = {
    "mamba": [{"in_proj", "x_proj", "dt_proj", "out_proj"}] * 2,
    "mamba2": [{"in_proj", "out_proj"}] * 2,
    "jamba": [{"in_proj", "x_proj", "dt_proj", "out_proj", *MLP}, {*ATTENTION, "router", *MOE}],
    "falcon-h1": [{*ATTENTION, *MLP, "in_proj", "out_proj"}] * 2,
    "qwen3-next": [{"in_proj_qkvz", "in_proj_ba", "out_proj", *QWEN_MOE}, {*ATTENTION, *QWEN_MOE}],
    "granite-hybrid": [
        {"in_proj", "out_proj", "input_linear", "output_linear"},
        {*ATTENTION, "input_linear", "output_linear"},
    ],
    "lfm2": [
        {"in_proj", "conv.out_proj", "w1", "w2", "w3"},
        {"q_proj", "k_proj", "v_proj", "self_attn.out_proj", "w1", "w2", "w3"},
    ],
}
PARTS = {
    "mamba": ["A_log", "D", "bias", "weight"] * 2,
    "mamba2": ["A_log", "D", "bias", "dt_bias", "weight"] * 2,
    "jamba": ["A_log", "D", "bias", "weight"],
    "falcon-h1": ["A_log", "D", "bias", "dt_bias", "weight"] * 2,
    "qwen3-next": ["A_log", "dt_bias", "weight"],
    "granite-hybrid": ["A_log", "D", "bias", "dt_bias", "weight"],
    "lfm2": ["weight"],
}
"""Last components of what a mixer has besides Linear weights and norms; weight and bias are the convolution's."""


@pytest.mark.parametrize("name", FAMILIES)
def test_a_mixer_has_families_of_its_own_and_parts_that_stay(name: str, tmp_path: Path) -> None:
    base = CheckpointIndex.open(tiny.save(tiny.model(name), tmp_path / "base"))
    keys = target_matrices(base)
    assert [{key.family for key in keys if key.layer == layer} for layer in (0, 1)] == FAMILIES[name]
    groups = Groups(base)
    parts = [tensor for tensor in base.tensors if groups.group(tensor) == "state space"]
    assert sorted(part.rpartition(".")[2] for part in parts) == sorted(PARTS[name])
    assert all("conv" in part for part in parts if part.endswith((".weight", ".bias")))
    expert = open_update("x", tiny.save(tiny.model(name, seed=1), tmp_path / "x"), base)
    found = plan(base, [expert])
    assert (found.active, found.warnings) == (keys, [])
    assert found.outside["state space"] == len(parts)
    rest = Counter(groups.group(tensor) for tensor in base.tensors) - Counter(found.outside)
    assert rest.total() == len(keys)
    own, other = tiny.tensors(base.root), tiny.tensors(expert.path)
    for key in keys:
        delta = expert.delta(key)
        assert isinstance(delta, torch.Tensor)
        assert torch.equal(key.from_linear(delta), other[key.name] - own[key.name])
