"""The language model beside other towers: found by structure, met by updates of itself and of the model around it."""

import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import dense
from gcwm_viz.updates.choice import Choice
from gcwm_viz.updates.matrices import target_matrices
from gcwm_viz.updates.pairing import open_update, plan
from gcwm_viz.updates.towers import Towers
from tests.checkpoints import tiny

ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0], "rope_theta": 1e4}}
QWEN = {"depth": 2, "hidden_size": 16, "num_heads": 4, "patch_size": 4}
SIGLIP = transformers.SiglipVisionConfig(**tiny.VISION)
MODELS: dict[str, Callable[[], Any]] = {
    "llava": tiny.ODD["llava"],
    "gemma3-vision": tiny.ODD["gemma3-vision"],
    "qwen2-vl": lambda: transformers.Qwen2VLConfig(
        text_config=tiny.DENSE | ROPE, vision_config=QWEN | {"embed_dim": 16, "mlp_ratio": 2}
    ),
    "qwen2.5-vl": lambda: transformers.Qwen2_5_VLConfig(
        text_config=tiny.DENSE | ROPE,
        vision_config=QWEN | {"intermediate_size": 24, "out_hidden_size": 16, "fullatt_block_indexes": [1]},
    ),
    "qwen3-vl": lambda: transformers.Qwen3VLConfig(
        text_config=tiny.DENSE | ROPE | {"head_dim": 4},
        vision_config=QWEN
        | {"intermediate_size": 24, "out_hidden_size": 16, "num_position_embeddings": 16}
        | {"deepstack_visual_indexes": [0]},
    ),
    "mllama": lambda: transformers.MllamaConfig(
        text_config=tiny.DENSE
        | {"cross_attention_layers": [1], "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        vision_config={
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_global_layers": 2,
            "attention_heads": 4, "image_size": 8, "patch_size": 4, "vision_output_dim": 32,
            "intermediate_layers_indices": [0], "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]],
        },
    ),
    "idefics3": lambda: transformers.Idefics3Config(
        text_config=tiny.CONFIGS["llama"](), vision_config=dict(tiny.VISION), scale_factor=2
    ),
    "smolvlm": lambda: transformers.SmolVLMConfig(
        text_config=tiny.CONFIGS["llama"](), vision_config=dict(tiny.VISION), scale_factor=2
    ),
    "paligemma": lambda: transformers.PaliGemmaConfig(
        text_config=tiny.CONFIGS["gemma"](), vision_config=SIGLIP, projection_dim=16, hidden_size=16
    ),
    "llama4": lambda: transformers.Llama4Config(
        text_config=tiny.DENSE | {"head_dim": 4, "intermediate_size_mlp": 24, "moe_layers": []},
        vision_config=tiny.VISION
        | {"intermediate_size": 64, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16},
    ),
}  # fmt: skip


def model(name: str, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return transformers.AutoModelForImageTextToText.from_config(MODELS[name]()).eval()


def language(a_model: Any) -> Any:
    outer = getattr(a_model, "model", a_model)  # Llama 4 has none
    inner = outer.text_model if hasattr(outer, "text_model") else outer.language_model
    return getattr(inner, "model", inner)


def linear(a_model: Any, wrapped: bool = True) -> dict[str, Tensor]:
    """Weights of the language model's Linear layers by their names below it: what transformers itself calls so."""
    modules = (language(a_model) if wrapped else a_model).named_modules()
    return {name: module.weight.detach().clone() for name, module in modules if isinstance(module, torch.nn.Linear)}


def bare(a_model: Any, folder: Path, prefix: str) -> Path:
    """The language model alone as a checkpoint: as it is (no prefix), or inside a causal language model."""
    tiny.save(language(a_model), folder)
    tensors = {prefix + name: tensor for name, tensor in tiny.tensors(folder).items()}
    return tiny.store(folder, tensors)


def changes(update: Path, base: CheckpointIndex) -> dict[str, Tensor]:
    """Δ of every target matrix that an update touches, by its name below the language model."""
    source = open_update("x", update, base)
    found = plan(base, [source])
    deltas = {key.name: dense(delta) for key in found.active if (delta := source.delta(key)) is not None}
    return {re.sub(r".*\b(layers\.\d+\..*)\.weight", r"\1", name): delta for name, delta in deltas.items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, change in expected.items():
        torch.testing.assert_close(found[name], change, rtol=1e-4, atol=1e-5)  # float32 products of rank 2


@pytest.mark.parametrize("name", MODELS)
def test_the_tower_and_the_model_around_it_meet(name: str, tmp_path: Path) -> None:
    """Full checkpoints in all forms on all bases; the oracle is the difference of transformers' own weights."""
    before, after = model(name), model(name, seed=1)
    own, other = linear(before), linear(after)
    expected = {tail: other[tail] - weight for tail, weight in own.items()}
    forms: list[tuple[str, Callable[[Any, Path], Path]]] = [
        ("wrapped", tiny.save),
        ("headless", partial(bare, prefix="")),
        ("causal", partial(bare, prefix="model.")),
    ]
    for base_form, save in forms:
        base = CheckpointIndex.open(save(before, tmp_path / f"base-{base_form}"))
        assert len(target_matrices(base)) == len(own)
        for form, write in forms:
            same(changes(write(after, tmp_path / f"{form}-of-{base_form}"), base), expected)


@pytest.mark.parametrize("name", MODELS)
def test_adapters_of_the_tower_and_of_the_model_around_it(name: str, tmp_path: Path) -> None:
    """peft adapts every q_proj and v_proj of the wrapper, the vision tower's too; its merged weights are the oracle."""
    folders = [tiny.save(model(name), tmp_path / "wrapped"), bare(model(name), tmp_path / "bare", "model.")]
    for form, whole in (("wrapped", True), ("bare", False)):
        adapted = model(name) if whole else language(model(name))
        before = linear(adapted, whole)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tuned = peft.get_peft_model(adapted, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
            for key, parameter in tuned.named_parameters():
                if "lora_" in key:
                    parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(key)))
            tuned.save_pretrained(str(tmp_path / form / "adapter"))
            after = linear(tuned.merge_and_unload(), whole)
        expected = {tail: after[tail] - w for tail, w in before.items() if tail.endswith(("q_proj", "v_proj"))}
        for folder in folders:
            same(changes(tmp_path / form / "adapter", CheckpointIndex.open(folder)), expected)


def test_what_lies_beside_the_language_model_is_counted_by_group(tmp_path: Path) -> None:
    """Every tensor of the wrapper is in the group of the submodule of transformers that holds it."""
    for name, folder in ((name, tmp_path / name) for name in MODELS):
        a_model = model(name)
        base = CheckpointIndex.open(tiny.save(a_model, folder))
        expert = tiny.save(model(name, seed=1), tmp_path / f"{name}-x")
        outside = plan(base, [open_update("x", expert, base)]).outside
        modules = dict(a_model.named_modules())
        tower = next(m for path, m in modules.items() if path.endswith(("vision_tower", "vision_model", "visual")))
        assert outside["vision tower"] == len(list(tower.parameters()))
        joining = [m for path, m in modules.items() if path.endswith(("projector", "connector"))]
        assert outside.get("projector", 0) == sum(len(list(m.parameters())) for m in joining)
        assert outside["embeddings"] == 1
        assert sum(outside.values()) + len(target_matrices(base)) == len(base.tensors)


@pytest.mark.parametrize("dotted", ["model.mm_projector.0", "model.mm_projector.2", "mlp1.1", "model.altup.0"])
def test_a_layer_of_a_sequence_is_no_block(dotted: str, tmp_path: Path) -> None:
    """LLaVA's own layout keeps the tower inside the language model and a projector as a sequence of layers."""
    tower = "model.vision_tower.vision_tower.vision_model.encoder"
    content = {
        "model.embed_tokens.weight": torch.zeros(9, 4),
        "model.layers.0.mlp.up_proj.weight": torch.zeros(4, 4),
        f"{tower}.layers.0.mlp.fc1.weight": torch.zeros(4, 4),
        f"{dotted}.weight": torch.zeros(4, 4),
    }
    base = CheckpointIndex.open(tiny.store(tmp_path, content))
    assert [key.name for key in target_matrices(base)] == ["model.layers.0.mlp.up_proj.weight"]
    towers = Towers.of(base)
    assert (list(towers.decoder), towers.others) == (["model.layers."], ("model.vision_tower.",))


@pytest.mark.parametrize("name", ["llava", "qwen3-vl"])
def test_a_vision_tower_is_merged_where_it_is_chosen(name: str, tmp_path: Path) -> None:
    base = CheckpointIndex.open(tiny.save(model(name), tmp_path / "base"))
    every = target_matrices(base, Choice(targets="vis|layers"))
    tower = [key for key in every if key not in target_matrices(base)]
    assert every[: len(every) - len(tower)] == target_matrices(base)  # families and order do not depend on the choice
    assert len(tower) > 8
    assert all("vis" in key.name and "vis" in key.family for key in tower)
    assert len({(key.layer, key.family) for key in every}) == len(every)
    one = target_matrices(base, Choice(targets=r"(blocks|encoder.layers)\..*fc\d", leave_out=r"\.1\..*fc2"))
    assert [(key.layer, key.family[-1]) for key in one] == [(0, "1"), (0, "2"), (1, "1")]
    source = open_update("x", tiny.save(model(name, seed=1), tmp_path / "x"), base)
    found = plan(base, [source], Choice(targets="vis"))
    assert all("vis" in key.name for key in found.active)
    own, other = tiny.tensors(base.root), tiny.tensors(source.path)
    for key in found.active:
        torch.testing.assert_close(source.delta(key), other[key.name] - own[key.name])


def test_a_list_inside_the_path_of_another(tmp_path: Path) -> None:
    names = ("m.layers.0.a.b.weight", "m.3.c.d.weight", "m.embed.weight")
    base = CheckpointIndex.open(tiny.store(tmp_path, {name: torch.zeros(4, 4) for name in names}))
    assert [key.name for key in target_matrices(base)] == ["m.3.c.d.weight"]
    (other,) = target_matrices(base, Choice(targets="layers"))
    assert (other.layer, other.family) == (0, "layers.b")


def test_patterns_that_choose_nothing_or_take_for_ever(base: CheckpointIndex) -> None:
    kinds = "there are model.layers.N.mlp.down_proj.weight, model.layers.N.mlp.gate_proj.weight"
    for choice, expected in (
        (Choice(targets="fc1"), f"--targets 'fc1' matches no matrix; {kinds}"),
        (Choice(leave_out="fc1"), "--leave-out 'fc1' matches no matrix; there are model.layers.N"),
        (Choice(leave_out="proj"), "--leave-out 'proj' matches all 14 target matrices"),
    ):
        with pytest.raises(InputError, match=re.escape(expected)):
            target_matrices(base, choice)
    for pattern, expected in (("(a+)+$", "simpler"), ("(", "is no regular expression"), ("a" * 501, "simpler")):
        for option in ("targets", "leave_out"):
            with pytest.raises(InputError, match=f"--{option.replace('_', '-')}: .*{expected}"):
                Choice(**{option: pattern})
    left = target_matrices(base, Choice(leave_out=r"down_proj|\.1\."))
    assert [(key.layer, key.family) for key in left] == [
        (0, f"{family}_proj") for family in ("q", "k", "v", "o", "gate", "up")
    ]
