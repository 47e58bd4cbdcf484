"""Experts that a checkpoint stacks in one tensor, read as one matrix each; transformers' parameters are the oracle."""

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gcwm_viz.checkpoints import reader
from gcwm_viz.checkpoints.architecture import holds_transposed, place_of, places
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.outside import outside_share
from gcwm_viz.updates.pairing import open_update, plan
from tests.checkpoints import tiny

STACKED = {"gpt-oss": True, "llama4": True, "granite-moe": False, "jetmoe": False}
"""Whether the checkpoint's stacks are (experts, d_in, d_out)."""
APART = ("qwen3-moe", "mixtral", "deepseek-v3")
"""Stacked in memory alone: saved as they are there, a checkpoint stacks them too."""


def saved(name: str, folder: Path, seed: int = 0, *, as_in_memory: bool = False) -> CheckpointIndex:
    return CheckpointIndex.open(tiny.save(tiny.model(name, seed), folder, save_original_format=not as_in_memory))


@pytest.mark.parametrize("name", [*STACKED, *APART])
def test_every_slice_is_a_matrix_of_its_own(name: str, tmp_path: Path) -> None:
    """A stack in the model's own layout is the parameter; its matrices have Linear shape, by expert and layer."""
    base = saved(name, tmp_path / "base", as_in_memory=name in APART)
    keys = target_matrices(base)
    experts = [key for key in keys if key.name.endswith("]")]
    assert {key.transposed for key in experts} == {STACKED.get(name, False)}
    widths = {"hidden": 16, "inner": 8 if name in ("qwen3-moe", "deepseek-v3") else 24}
    for key in experts:
        if "self_attention" in key.name:
            continue
        into = key.family.endswith(("gate_up_proj", "input_linear"))
        shape = (2 * widths["inner"], widths["hidden"]) if into else (widths["hidden"], widths["inner"])
        assert key.shape == shape
    expert = open_update("x", saved(name, tmp_path / "x", seed=1, as_in_memory=name in APART).root, base)
    found = plan(base, [expert])
    assert (found.active, found.coverage[0]["extra"]) == (keys, 0)
    own, other = (dict(tiny.model(name, seed).named_parameters()) for seed in (0, 1))
    for key in experts:
        tensor, entry = key.name[:-1].rsplit("[", 1)
        parameter = {"granite-moe": granite}.get(name, str)(tensor)
        delta = expert.delta(key)
        assert isinstance(delta, Tensor)
        assert torch.equal(key.from_linear(delta), (other[parameter] - own[parameter])[int(entry)])
    assert len(experts) == sum(p.shape[0] for p in own.values() if p.ndim == 3)


def test_a_checkpoint_that_transformers_transposes(tmp_path: Path) -> None:
    """Qwen3-VL-MoE was published with (experts, d_in, d_out) and is loaded as (experts, d_out, d_in)."""
    saved_as = saved("qwen3-vl-moe", tmp_path / "new")
    content = tiny.tensors(saved_as.root)
    turned = {name: value.mT.contiguous() if value.ndim == 3 else value for name, value in content.items()}
    tiny.store(tmp_path / "old", turned)
    (tmp_path / "old" / "config.json").write_text(json.dumps(saved_as.config))
    old = CheckpointIndex.open(tmp_path / "old")
    stacks = [{key.name: key for key in target_matrices(base) if key.name.endswith("]")} for base in (saved_as, old)]
    assert stacks[0].keys() == stacks[1].keys()
    assert len(stacks[0]) == 12
    for name, key in stacks[0].items():
        turned_key = stacks[1][name]
        assert (key.transposed, turned_key.transposed) == (False, True)
        assert (key.family, key.shape) == (turned_key.family, turned_key.shape)
        own, other = (reader.read_tensor(base.stored(name)) for base in (saved_as, old))
        assert torch.equal(key.to_linear(own), turned_key.to_linear(other))
    model = tiny.model("qwen3-vl-moe")
    placed = places(model, old.tensors)
    for name in stacks[1]:
        place = place_of(name, placed)
        assert place is not None
        whole = model.get_parameter(place.parameter)
        assert torch.equal(place.part(whole), reader.read_tensor(old.stored(name)))


def granite(tensor: str) -> str:
    return tensor.replace("input_linear.weight", "experts.gate_up_proj").replace(
        "output_linear.weight", "experts.down_proj"
    )


@pytest.mark.parametrize("name", [*STACKED, *APART])
def test_only_slices_are_read(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = saved(name, tmp_path / "base", as_in_memory=True)
    expert = open_update("x", saved(name, tmp_path / "x", seed=1, as_in_memory=True).root, base)
    read = reader._local_tensor
    sizes = []

    def counted(*arguments: Any) -> Tensor:
        tensor = read(*arguments)
        sizes.append((tensor.ndim, tensor.untyped_storage().nbytes()))
        return tensor

    monkeypatch.setattr(reader, "_local_tensor", counted)
    largest = 0
    for key in plan(base, [expert]).active:
        expert.delta(key)
        largest = max(largest, 4 * key.parameters)
    assert max(sizes) == (2, largest)


def test_a_square_stack_shows_its_layout_by_what_is_computed() -> None:
    """Neither sizes nor names tell x W from x Wᵀ; the module's own forward does, as its numbers confirm."""
    from transformers.models.jetmoe.modeling_jetmoe import JetMoeParallelExperts
    from transformers.models.llama4.modeling_llama4 import Llama4TextExperts

    config = tiny.CONFIGS["llama4"]()
    config.hidden_size, config.intermediate_size = 8, 4
    torch.manual_seed(0)
    with torch.device("meta"):
        llama, jet = Llama4TextExperts(config), JetMoeParallelExperts(3, 8, 8)
    assert llama.gate_up_proj.shape == jet.weight.shape == (3, 8, 8)
    assert holds_transposed(torch.nn.ModuleDict({"held": llama}), "held.gate_up_proj") is True
    assert holds_transposed(torch.nn.ModuleDict({"held": llama}), "held.down_proj") is True
    assert holds_transposed(torch.nn.ModuleDict({"held": jet}), "held.weight") is False
    weight, rows = torch.randn(3, 8, 8), torch.randn(3, 8)
    jet.weight = torch.nn.Parameter(weight)
    torch.testing.assert_close(jet(rows, [1, 1, 1]), torch.einsum("ei,eoi->eo", rows, weight))
    llama.gate_up_proj = torch.nn.Parameter(weight)
    llama.down_proj = torch.nn.Parameter(torch.eye(4, 8).expand(3, 4, 8))
    gate, up = torch.einsum("ei,eio->eo", rows, weight).chunk(2, dim=-1)
    torch.testing.assert_close(llama(rows)[:, :4], up * torch.nn.functional.silu(gate))


def test_a_module_that_does_not_show_its_layout() -> None:
    class Odd(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = torch.nn.Parameter(torch.empty(3, 4, 5, device="meta"))

        def forward(self, rows: Tensor, router: Tensor, weights: Tensor) -> Tensor:
            raise AssertionError

    holder = torch.nn.ModuleDict({"held": Odd()})
    assert holds_transposed(holder, "held.stack") is None


@pytest.mark.parametrize("name", ["qwen3-moe", "mixtral", "deepseek-v3", "granite-moe"])
@pytest.mark.parametrize("kind", ["checkpoint", "delta"])
def test_a_stack_is_paired_with_the_experts_that_the_base_keeps_apart(name: str, kind: str, tmp_path: Path) -> None:
    """Saved as in memory, the same model has stacks, other names and two matrices fused in one."""
    base = saved(name, tmp_path / "base")
    plain = open_update("x", saved(name, tmp_path / "x", seed=1).root, base)
    folder = saved(name, tmp_path / "y", seed=1, as_in_memory=True).root
    if kind == "delta":
        memory = tiny.tensors(saved(name, tmp_path / "own", as_in_memory=True).root)
        changes = {tensor: value - memory[tensor] for tensor, value in tiny.tensors(folder).items()}
        tiny.store(tmp_path / "d", changes, gcwm_viz="update")
        folder = tmp_path / "d"
    stacked = open_update("x", folder, base)
    keys = target_matrices(base)
    found = plan(base, [stacked])
    assert found.active == keys
    assert found.coverage[0]["extra"] == 0
    for key in keys:
        assert torch.equal(dense(plain.delta(key)), dense(stacked.delta(key)))  # type: ignore[arg-type]
    assert outside_share(base, stacked, keys) == pytest.approx(outside_share(base, plain, keys), nan_ok=True)


def test_other_layouts_are_refused(tmp_path: Path) -> None:
    """A base that fuses two matrices of an expert has none of them alone."""
    base = saved("qwen3-moe", tmp_path / "base", as_in_memory=True)
    apart = saved("qwen3-moe", tmp_path / "x", seed=1)
    with pytest.raises(InputError, match=r"0.gate_proj.weight' of shape \(8, 16\) holds experts in another layout"):
        plan(base, [open_update("x", apart.root, base)])
    changes = {name: value for name, value in tiny.tensors(apart.root).items() if "q_proj" in name or "down" in name}
    tiny.store(tmp_path / "down", changes, gcwm_viz="update")
    assert len(plan(base, [open_update("x", tmp_path / "down", base)]).active) == 2 + 2 * 3  # those are the same
    changes = {name: value for name, value in tiny.tensors(apart.root).items() if "q_proj" in name or "experts" in name}
    tiny.store(tmp_path / "d", changes, gcwm_viz="update")
    with pytest.raises(InputError, match=r"experts in another layout than the base .* save both with"):
        plan(base, [open_update("x", tmp_path / "d", base)])
    base = saved("llama4", tmp_path / "dense")
    tiny.store(tmp_path / "s", {"model.layers.0.experts.up_proj": torch.ones(3, 4, 8)}, gcwm_viz="update")
    with pytest.raises(InputError, match=r"experts.up_proj' of shape \(3, 4, 8\) holds experts in another layout"):
        plan(base, [open_update("x", tmp_path / "s", base)])
    wrong = {name: value[:2] for name, value in tiny.tensors(base.root).items() if "down_proj" in name}
    tiny.store(tmp_path / "w", wrong, gcwm_viz="update")
    with pytest.raises(InputError, match=r"down_proj' has shape \(2, 24, 16\), expected \(3, 24, 16\)"):
        open_update("x", tmp_path / "w", base)


@pytest.mark.parametrize("config", [None, {"model_type": "unheard-of"}, {"model_type": "qwen3", "num_experts": 3}])
def test_a_layout_that_is_not_known(config: dict[str, Any] | None, tmp_path: Path) -> None:
    """What holds the stacks is refused and says why; what leaves them out is merged."""
    base = saved("gpt-oss", tmp_path / "base")
    (base.root / "config.json").unlink()
    if config is not None:
        (base.root / "config.json").write_text(json.dumps(config))
    base = CheckpointIndex.open(base.root)
    assert not any("experts" in key.family for key in target_matrices(base))
    why = "no config.json|transformers cannot build the base|has no parameter of experts in its place"
    with pytest.raises(InputError, match=rf"stacks the experts .* shape \(3, 24, 16\), .* is not known: .*({why})"):
        plan(base, [open_update("x", saved("gpt-oss", tmp_path / "x", seed=1).root, base)])
    adapter, _, _ = tiny.lora("gpt-oss", tmp_path / "a", r=2, target_modules=["q_proj", "v_proj"])
    assert len(plan(base, [open_update("x", adapter, base)]).active) == 4


def test_the_energy_of_stacks_is_that_of_the_targets(tmp_path: Path) -> None:
    base = saved("gpt-oss", tmp_path / "base")
    content = tiny.tensors(base.root)
    moved = {name: value + (0.1 if "experts" in name else 0.0) for name, value in content.items()}
    tiny.store(tmp_path / "x", moved)
    (tmp_path / "x" / "config.json").write_text(json.dumps(base.config))
    share = outside_share(base, open_update("x", tmp_path / "x", base), target_matrices(base))
    counts = {name: moved[name].numel() for name in moved if "experts" in name}
    biases = sum(count for name, count in counts.items() if name.endswith("_bias"))
    assert share["total_norm"] == pytest.approx(0.1 * math.sqrt(sum(counts.values())), rel=1e-5)
    assert share["outside_biases"] == share["outside_share"] == pytest.approx(biases / sum(counts.values()), rel=1e-5)


def test_stacks_that_an_adapter_stores_whole(tmp_path: Path) -> None:
    base = saved("gpt-oss", tmp_path / "base")
    folder, before, _ = tiny.lora("gpt-oss", tmp_path / "a", r=2, target_modules=["q_proj"])
    content = load_file(folder / "adapter_model.safetensors")
    stack = "model.layers.1.mlp.experts.down_proj"
    tiny.store(folder, content | {f"base_model.model.{stack}": before[stack] + 0.5}, "adapter_model.safetensors")
    source: Any = open_update("x", folder, base)
    keys = plan(base, [source]).active
    whole = [key for key in keys if key.name.startswith(stack)]
    assert (len(keys), len(whole)) == (5, 3)
    for key in whole:
        torch.testing.assert_close(source.delta(key), torch.full(key.shape, 0.5), rtol=0, atol=1e-6)


TARGETED = {
    "gpt-oss": ["experts.gate_up_proj", "experts.down_proj"],
    "llama4": ["experts.gate_up_proj", "experts.down_proj"],
    "granite-moe": ["experts.down_proj", "experts.gate_up_proj"],
    "jetmoe": ["input_linear.weight"],
    "qwen3-moe": ["experts.gate_up_proj", "experts.down_proj"],
    "mixtral": ["mlp.experts.down_proj"],
    "deepseek-v3": ["experts.gate_up_proj", "experts.down_proj"],
}


@pytest.mark.parametrize("as_in_memory", [False, True], ids=["saved", "as in memory"])
@pytest.mark.parametrize("name", TARGETED)
def test_lora_on_stacks(name: str, as_in_memory: bool, tmp_path: Path) -> None:
    """peft's own merge is the oracle: of every parameter that it changed, in the base's layout."""
    base = saved(name, tmp_path / "base", as_in_memory=as_in_memory)
    folder, before, merged = tiny.lora(
        name, tmp_path / "a", r=2, target_modules=[], target_parameters=TARGETED[name], use_rslora=name == "mixtral"
    )
    source = open_update("x", folder, base)
    keys = plan(base, [source]).active
    placed, seen = places(tiny.model(name), base.tensors), set()
    for key in keys:
        place = place_of(key.name, placed)
        assert place is not None
        seen.add(place.parameter)
        delta = source.delta(key)
        assert isinstance(delta, LowRank)
        assert (delta.rank, source.rank(key)) == (2, 2)
        change = place.part(merged[place.parameter] - before[place.parameter])
        torch.testing.assert_close(key.from_linear(dense(delta)), change, rtol=1e-4, atol=1e-5)
    assert seen == {parameter for parameter in merged if not torch.equal(merged[parameter], before[parameter])}
    assert sum(key.parameters for key in keys) == sum(before[parameter].numel() for parameter in seen)


def test_lora_on_stacks_that_does_not_fit(tmp_path: Path) -> None:
    base = saved("qwen3-moe", tmp_path / "base")
    square, _, _ = tiny.lora("qwen3-moe", tmp_path / "a", r=2, target_modules=[], target_parameters=["gate_up_proj"])
    with pytest.raises(InputError, match=r"experts.gate_up_proj' of square matrices, for which PEFT's versions differ"):
        open_update("x", square, base)
    folder, _, _ = tiny.lora("mixtral", tmp_path / "b", r=2, target_modules=[], target_parameters=["down_proj"])
    with pytest.raises(InputError, match=r"of shape \(6, 24\) has the partner \(16, 6\), expected factors of rank 2"):
        open_update("x", folder, base)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"target_parameters": ["no_such"]}))
    with pytest.raises(
        InputError, match=r"one of 1 that adapt parameters of 'model.layers.0.mlp.experts', .* has none"
    ):
        open_update("x", folder, base)
    bare = CheckpointIndex.open(tiny.store(tmp_path / "bare", tiny.tensors(base.root)))
    with pytest.raises(InputError, match="transformers cannot build the base"):
        open_update("x", square, bare)


def test_names_of_matrices_in_stacks(tmp_path: Path) -> None:
    base = CheckpointIndex.open(
        tiny.store(tmp_path, {"a.experts.x": torch.arange(24.0).reshape(2, 3, 4), "b[1]": torch.ones(2)})
    )
    held = {"a.experts.x[1]": True, "b[1]": True, "a.experts.x[2]": False, "a.experts.x[01]": False, "c[0]": False}
    assert {name: base.holds(name) for name in held} == held
    part = base.stored("a.experts.x").part(1, (1, 3))
    assert torch.equal(reader.read_tensor(part), torch.arange(16.0, 24.0).reshape(2, 4))
    assert torch.equal(reader.read_tensor(part, slice(1, 2)), torch.arange(20.0, 24.0).reshape(1, 4))
    raw = part.path.read_bytes()[part.offset : part.offset + part.nbytes]
    assert struct.unpack("<8f", raw) == tuple(range(16, 24))
    with pytest.raises(KeyError):
        base.stored("c")
