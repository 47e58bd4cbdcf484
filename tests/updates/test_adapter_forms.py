"""Every kind of adapter that is read, against the weights that peft itself merges; and those that are refused."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.peft_layers import _KINDS
from gcwm_viz.errors import InputError
from gcwm_viz.export.checkpoint import export_step
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.runs.inputs import reopen_inputs
from gcwm_viz.updates.matrices import MatrixKey, target_matrices
from gcwm_viz.updates.outside import outside_share
from gcwm_viz.updates.pairing import open_update, plan
from gcwm_viz.updates.source import UpdateSource
from tests.checkpoints import tiny
from tests.export import runs

# peft and transformers warn those who train.
pytestmark = pytest.mark.filterwarnings("ignore")

TARGETS = {"qwen2": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_fc"]}

# Settings that fit matrices of 8, 16 and 24 rows and columns.
SETTINGS: dict[str, dict[str, Any]] = {
    "ADALORA": {"total_step": 10, "init_r": 3},
    "BOFT": {"boft_block_size": 4},
    "C3A": {"block_size": 4},
    "DEFT": {},
    "DELORA": {"r": 3},
    "FOURIERFT": {"n_frequency": 20},
    "GLORA": {},
    "GRALORA": {"r": 4, "gralora_k": 2},
    "HIRA": {"r": 3},
    "HRA": {"r": 2},
    "IA3": {"feedforward_modules": ["down_proj"]},
    "LOHA": {"r": 3, "rank_pattern": {"v_proj": 2}, "alpha_pattern": {"q_proj": 5}},
    "LOKR": {"r": 3},
    "MISS": {"r": 4},
    "OFT": {"oft_block_size": 4, "r": 0},
    "PEANUT": {},
    "PVERA": {"r": 3},
    "RANDLORA": {"r": 2},
    "ROAD": {"group_size": 4},
    "SUPERTUNING": {},
    "VBLORA": {"r": 2, "num_vectors": 20, "vector_length": 4, "topk": 2},
    "VERA": {"r": 3},
    "WAVEFT": {"n_frequency": 20},
}
TRANSPOSED = ("ADALORA", "DEFT", "FOURIERFT", "GRALORA", "HIRA", "IA3", "PVERA", "RANDLORA", "VBLORA", "VERA", "WAVEFT")


def model(name: str, seed: int = 0) -> Any:
    """With biases that are not zero, since some kinds scale them."""
    made = tiny.model(name, seed)
    for parameter_name, parameter in made.named_parameters():
        if parameter_name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return made


def config(kind: str, name: str = "qwen2", **settings: Any) -> Any:
    kind_of = PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)]
    settings = {"target_modules": TARGETS[name], **SETTINGS.get(kind, {}), **settings}
    if name == "gpt2" and "fan_in_fan_out" in {field.name for field in dataclasses.fields(kind_of)}:
        settings["fan_in_fan_out"] = True
    return kind_of(**settings)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CheckpointIndex]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: CheckpointIndex.open(tiny.save(model(name), folder / name)) for name in ("qwen2", "gpt2")}


def close(found: Tensor, merged: Tensor, before: Tensor, steps: int = 16) -> None:
    """Δ against merged − before: both round the merged weight to float32, and so do the few products before it."""
    level = max(float(merged.abs().max()), float(before.abs().max()))
    error = float((found - (merged - before)).abs().max())
    assert error <= steps * torch.finfo(torch.float32).eps * level


def compare(source: UpdateSource, keys: list[MatrixKey], before: dict[str, Tensor], merged: dict[str, Tensor]) -> None:
    """Every target matrix, those that are not adapted included, and every tensor outside them."""
    moved = {name for name in source.base.tensors if not torch.equal(before[name], merged[name])}
    assert moved
    for key in keys:
        delta = source.delta(key)
        if delta is None:
            assert key.name not in moved
        else:
            assert (source.rank(key) is not None) == isinstance(delta, LowRank)
            assert source.nbytes(key) > 0
            close(key.from_linear(dense(delta)), merged[key.name], before[key.name])
    outside = source.outside_names(keys)
    assert moved - {key.name for key in keys} <= set(outside)
    for name in outside:
        close(source.outside_change(name), merged[name], before[name])


@pytest.mark.parametrize(
    ("name", "kind"), [("qwen2", kind) for kind in SETTINGS] + [("gpt2", kind) for kind in TRANSPOSED]
)
def test_kinds_that_peft_merges(bases: dict[str, CheckpointIndex], tmp_path: Path, name: str, kind: str) -> None:
    base, keys = bases[name], target_matrices(bases[name])
    extra = {"feedforward_modules": ["c_fc"]} if (name, kind) == ("gpt2", "IA3") else {}
    folder, before, merged = tiny.adapter(model(name), tmp_path, config(kind, name, **extra))
    source = open_update("x", folder, base)
    assert source.kind == "adapter"
    assert {key.family for key in plan(base, [source]).active} == {
        key.family for key in keys if key.family.endswith(tuple(TARGETS[name]))
    }
    compare(source, keys, before, merged)


def test_every_kind_is_tested() -> None:
    assert set(SETTINGS) == _KINDS - {"LORA"} | {"ADALORA"}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen2", {"use_dora": True, "r": 3, "lora_alpha": 5, "rank_pattern": {"v_proj": 2}}),
        ("gpt2", {"use_dora": True, "r": 3}),
        ("qwen2", {"use_dora": True, "use_rslora": True, "r": 3,
                   "target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
        ("qwen2", {"r": 3, "lora_bias": True, "target_modules": ["q_proj"], "bias": "lora_only"}),
        ("qwen2", {"r": 3, "bias": "all", "modules_to_save": ["norm", "lm_head"]}),
        ("qwen2", {"r": 3, "trainable_token_indices": [3, 7]}),
        ("qwen2", {"r": 3, "target_modules": ["embed_tokens", "q_proj"]}),
        ("qwen2", {"r": 4, "use_bdlora": {"target_modules_bd_a": ["down_proj"], "target_modules_bd_b": ["v_proj"],
                                           "nblocks": 2, "match_strict": False}}),
        ("qwen2", {"r": 3, "kasa_config": {}}),
        ("qwen2", {"r": 3, "velora_config": {"num_groups": 2}}),
        ("qwen2", {"r": 3, "monteclora_config": {}}),
        ("qwen2", {"r": 3, "init_lora_weights": "mica"}),
        ("qwen2", {"r": 4, "init_lora_weights": "orthogonal"}),
    ],
    ids=str,
)  # fmt: skip
def test_forms_of_lora(bases: dict[str, CheckpointIndex], tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    variants = {"use_bdlora": "BdLoraConfig", "velora_config": "VeloraConfig", "kasa_config": "KasaConfig",
                "monteclora_config": "MontecloraConfig"}  # fmt: skip
    made = {
        key: getattr(peft.tuners.lora.config, variants[key])(**value) if key in variants else value
        for key, value in settings.items()
    }
    folder, before, merged = tiny.adapter(model(name), tmp_path, config("LORA", name, **made))
    source = open_update("x", folder, bases[name])
    plan(bases[name], [source])
    compare(source, target_matrices(bases[name]), before, merged)


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True, "rank_pattern": {"v_proj": 2}}, {"use_dora": True}], ids=str
)
@pytest.mark.parametrize(("name", "start"), [("qwen2", "pissa"), ("qwen2", "olora"), ("gpt2", "pissa")])
def test_starts_that_are_subtracted_from_the_base(
    bases: dict[str, CheckpointIndex], tmp_path: Path, name: str, start: str, settings: dict[str, Any]
) -> None:
    """Oracles: what was trained, merged, and the stored adapter as peft loads it onto the base, by the same
    decomposition. Its error is that of the decomposition, eps·σ_1 over the relative gap after σ_r, here above 0.01."""
    made = config("LORA", name, r=3, init_lora_weights=start, **settings)
    folder, before, merged = tiny.adapter(model(name), tmp_path, made)
    loaded = peft.PeftModel.from_pretrained(model(name), str(folder)).merge_and_unload().state_dict()
    source: Any = open_update("x", folder, bases[name])
    assert f"follows from its base ({start})" in " ".join(plan(bases[name], [source]).notes)
    for key in target_matrices(bases[name]):
        delta = source.delta(key)
        for oracle in (merged, loaded):
            change = torch.zeros(key.stored_shape) if delta is None else key.from_linear(dense(delta))
            close(change, oracle[key.name], before[key.name], steps=500)
        if delta is not None and not settings.get("use_dora"):
            assert isinstance(delta, LowRank)
            assert (
                delta.rank == source.rank(key) == 2 * (2 if "rank_pattern" in settings and "v_proj" in key.name else 3)
            )


def test_an_adapter_that_was_converted_to_plain_lora(bases: dict[str, CheckpointIndex], tmp_path: Path) -> None:
    """The remedy in the sentence on randomised PiSSA: peft stores a plain adapter of twice the rank."""
    torch.manual_seed(0)
    adapted = peft.get_peft_model(model("qwen2"), config("LORA", r=3, init_lora_weights="pissa_niter_4"))
    start = adapted.peft_config["default"]
    start.init_lora_weights = True
    adapted.save_pretrained(str(tmp_path / "start"))
    start.init_lora_weights = "pissa_niter_4"
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    adapted.save_pretrained(str(tmp_path / "as trained"))
    with pytest.raises(InputError, match=r"pissa_niter_4.*path_initial_model_for_weight_conversion"):
        open_update("x", tmp_path / "as trained", bases["qwen2"])
    adapted.save_pretrained(str(tmp_path / "plain"), path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    merged = adapted.merge_and_unload().state_dict()
    source: Any = open_update("x", tmp_path / "plain", bases["qwen2"])
    for key in source.touched(target_matrices(bases["qwen2"])):
        assert source.rank(key) == 6
        close(dense(source.delta(key)), merged[key.name], model("qwen2").state_dict()[key.name], steps=100)


def test_ranks_that_adalora_took_away(bases: dict[str, CheckpointIndex], tmp_path: Path) -> None:
    """Each module keeps what its mask says, and the scaling stays that of the first rank."""
    folder, before, _ = tiny.adapter(model("qwen2"), tmp_path, config("ADALORA", lora_alpha=7))
    content, file = load_file(folder / "adapter_model.safetensors"), folder / "adapter_config.json"
    masks = [[True, False, True], [False, False, False], [False, True, False]]
    pattern, kept = {}, dict(content)
    for number, name in enumerate(sorted(name for name in content if name.endswith("lora_E"))):
        mask, module = masks[number % 3], name.removesuffix(".lora_E")
        pattern[f"{module.removeprefix('base_model.model.')}.lora_E"] = mask
        for side in "AE":
            kept[f"{module}.lora_{side}"] = content[f"{module}.lora_{side}"][mask]
        kept[f"{module}.lora_B"] = content[f"{module}.lora_B"][:, mask].contiguous()
    tiny.store(folder, kept, "adapter_model.safetensors")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rank_pattern": pattern}))
    merged = peft.PeftModel.from_pretrained(model("qwen2"), str(folder)).merge_and_unload().state_dict()
    source, keys = open_update("x", folder, bases["qwen2"]), target_matrices(bases["qwen2"])
    assert {source.rank(key) for key in source.touched(keys)} == {0, 1, 2}
    compare(source, keys, before, merged)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"init_lora_weights": "olora"}], ids=str)
def test_an_adapter_needs_the_weights_that_it_was_trained_on(
    bases: dict[str, CheckpointIndex], tmp_path: Path, settings: dict[str, Any]
) -> None:
    """On a checkpoint: peft's merge of it, less the base."""
    base, keys = bases["qwen2"], target_matrices(bases["qwen2"])
    trained = model("qwen2", seed=4)
    tiny.save(trained, tmp_path / "model")
    targets = ["q_proj", "embed_tokens"] if "use_dora" in settings else ["q_proj"]
    adapted = peft.get_peft_model(
        trained, config("LORA", r=3, target_modules=targets, modules_to_save=["lm_head"], **settings)
    )
    for name, parameter in adapted.named_parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name)))
    adapted.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    merged, before = adapted.merge_and_unload().state_dict(), model("qwen2").state_dict()
    source: Any = open_update("x", f"{tmp_path / 'model'}+{tmp_path / 'adapter'}", base)
    assert set(source.outside_names(keys)) == set(base.tensors) - {key.name for key in keys}
    for key in keys:
        close(dense(source.delta(key)), merged[key.name], before[key.name], steps=500)
    for name in source.outside_names(keys):
        close(source.outside_change(name), merged[name], before[name])
    alone: Any = open_update("x", tmp_path / "adapter", base)
    assert not torch.allclose(dense(alone.delta(keys[0])), dense(source.delta(keys[0])), atol=0.01)


def test_half_precision_and_strength(bases: dict[str, CheckpointIndex], tmp_path: Path) -> None:
    """Stored in bfloat16, an adapter is merged in float32; a strength scales what it changes, biases included."""
    base, keys = bases["qwen2"], target_matrices(bases["qwen2"])
    folder, before, _ = tiny.adapter(model("qwen2"), tmp_path, config("IA3"))
    content = {name: value.bfloat16() for name, value in load_file(folder / "adapter_model.safetensors").items()}
    tiny.store(folder, content, "adapter_model.safetensors")
    merged = peft.PeftModel.from_pretrained(model("qwen2"), str(folder)).merge_and_unload().state_dict()
    source: Any = open_update("x", folder, base, 0.5)
    for key in source.touched(keys):
        close(2 * source.delta(key), merged[key.name], before[key.name])
    (bias,) = [name for name in source.outside_names(keys) if name.startswith("model.layers.1.self_attn.v")]
    close(2 * source.outside_change(bias), merged[bias], before[bias])


@pytest.mark.parametrize("kind", ["IA3", "LORA"])
def test_energy_outside_the_targets(bases: dict[str, CheckpointIndex], tmp_path: Path, kind: str) -> None:
    base = bases["qwen2"]
    extra: dict[str, Any] = {"r": 3, "lora_bias": True, "target_modules": ["q_proj"]} if kind == "LORA" else {}
    folder, before, merged = tiny.adapter(model("qwen2"), tmp_path, config(kind, modules_to_save=["lm_head"], **extra))
    squares = {name: float((merged[name] - before[name]).double().square().sum()) for name in base.tensors}
    found = outside_share(base, open_update("x", folder, base), target_matrices(base))
    total = sum(squares.values())
    assert found["total_norm"] == pytest.approx(total**0.5, rel=1e-5)
    biases = sum(square for name, square in squares.items() if name.endswith("bias"))
    assert biases > 0
    assert found["outside_biases"] == pytest.approx(biases / total, rel=1e-5)
    assert found["outside_head"] == pytest.approx(squares["lm_head.weight"] / total, rel=1e-5)


def test_reading_leaves_the_random_numbers_alone(bases: dict[str, CheckpointIndex], tmp_path: Path) -> None:
    folder, _, _ = tiny.adapter(model("qwen2"), tmp_path, config("VERA", save_projection=False))
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    source = open_update("x", folder, bases["qwen2"])
    first = source.delta(target_matrices(bases["qwen2"])[0])
    assert torch.equal(torch.rand(4), expected)
    assert first is not None


def test_projections_that_are_drawn_again(bases: dict[str, CheckpointIndex], tmp_path: Path) -> None:
    """VeRA's are left out of the file by choice; they follow from a seed and the shapes of all adapted modules."""
    base, keys = bases["qwen2"], target_matrices(bases["qwen2"])
    folder, before, merged = tiny.adapter(
        model("qwen2"), tmp_path, config("VERA", save_projection=False, projection_prng_key=5)
    )
    assert not any("vera_A" in name for name in load_file(folder / "adapter_model.safetensors"))
    source = open_update("x", folder, base)
    compare(source, keys, before, merged)
    assert "drawn from the seed in its adapter_config.json" in " ".join(plan(base, [source]).notes)


def altered(folder: Path, settings: dict[str, Any], tensors: dict[str, Tensor | None]) -> Path:
    file, content = folder / "adapter_config.json", load_file(folder / "adapter_model.safetensors")
    for end, value in tensors.items():
        name = next(name for name in content if name.endswith(end))
        content |= {name: value} if value is not None else {}
        if value is None:
            del content[name]
    tiny.store(folder, content, "adapter_model.safetensors")
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


@pytest.mark.parametrize(
    ("kind", "settings", "tensors", "says"),
    [
        ("LOHA", {}, {"0.self_attn.q_proj.hada_w1_a": torch.ones(5, 3)}, "size mismatch"),
        ("LOHA", {"r": 9}, {}, "size mismatch"),
        ("LOHA", {}, {"0.self_attn.q_proj.hada_w1_a": None}, "it lacks 'hada_w1_a.default'"),
        ("LOHA", {"use_effective_conv2d": True, "alpha": "much"}, {}, "adapter_config.json"),
        ("LOHA", {"rank_pattern": {"(a+)+b": 1}}, {}, "expected a simpler one"),
        ("VERA", {"r": 10**9}, {}, "r is 1000000000, expected at most"),
        ("VERA", {}, {"vera_A": None}, "vera_A"),
        ("VBLORA", {"num_vectors": 10**9}, {}, "num_vectors is 1000000000, expected at most"),
        ("BOFT", {"boft_n_butterfly_factor": 10**6}, {}, "boft_n_butterfly_factor is 1000000, expected at most"),
        ("OFT", {"num_cayley_neumann_terms": 10**9}, {}, "num_cayley_neumann_terms is 1000000000, expected at most"),
        ("IA3", {"peft_type": "LOHA"}, {}, r"'x' touches no target matrix, .* found 6 tensors outside them"),
        ("ADALORA", {"init_r": 0}, {}, "init_r of .* must be a positive number, found '0'"),
        ("ADALORA", {}, {"0.self_attn.q_proj.lora_E": torch.ones(4, 1)}, "expected rank 3"),
        ("ADALORA", {}, {"0.self_attn.q_proj.lora_E": None}, "expected lora_E too"),
    ],
)
def test_adapters_that_do_not_fit(
    bases: dict[str, CheckpointIndex],
    tmp_path: Path,
    kind: str,
    settings: dict[str, Any],
    tensors: dict[str, Tensor | None],
    says: str,
) -> None:
    folder = altered(tiny.adapter(model("qwen2"), tmp_path, config(kind))[0], settings, tensors)
    with pytest.raises(InputError, match=says) as caught:
        plan(bases["qwen2"], [open_update("x", folder, bases["qwen2"])])
    assert str(tmp_path) in str(caught.value)


def test_dora_magnitudes_that_do_not_fit(bases: dict[str, CheckpointIndex], tmp_path: Path) -> None:
    folder = tiny.adapter(model("qwen2"), tmp_path, config("LORA", r=3, use_dora=True))[0]
    altered(folder, {}, {"0.self_attn.q_proj.lora_magnitude_vector": torch.ones(5)})
    with pytest.raises(InputError, match=r"shape \(5,\), expected one floating number for each of 16 rows"):
        open_update("x", folder, bases["qwen2"])


def test_an_adapter_of_another_base(bases: dict[str, CheckpointIndex], tmp_path: Path) -> None:
    folder = tiny.adapter(model("qwen2"), tmp_path, config("LOHA"))[0]
    with pytest.raises(InputError, match=r"this adapter is for another base.*hada.*expected in the base .* found none"):
        open_update("x", folder, bases["gpt2"])


def test_peft_is_asked_for_by_name(
    bases: dict[str, CheckpointIndex], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DoRA, AdaLoRA, PiSSA and OLoRA are read without it."""
    folder = tiny.adapter(model("qwen2"), tmp_path / "a", config("LOHA"))[0]
    dora = tiny.adapter(model("qwen2"), tmp_path / "b", config("LORA", r=3, use_dora=True))[0]
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match=r"type LOHA is merged by the package peft.*extra `peft`.*merge_and_unload"):
        open_update("x", folder, bases["qwen2"])
    assert open_update("x", dora, bases["qwen2"]).delta(target_matrices(bases["qwen2"])[0]) is not None


@pytest.mark.parametrize(("kind", "settings"), [("LORA", {"r": 2}), ("IA3", {}), ("VERA", {})], ids=str)
def test_an_adapter_before_its_training_is_an_error(
    bases: dict[str, CheckpointIndex], tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    base = bases["qwen2"]
    adapted = peft.get_peft_model(model("qwen2"), config(kind, **settings))
    adapted.save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="'x' is zero in each of its 6 target matrices, as an adapter is before its"):
        plan(base, [open_update("x", tmp_path, base)])


def test_a_run_over_dora_and_lora(tmp_path: Path) -> None:
    """The merged model is the base with the mean of what peft merges for each."""
    index = runs.base(tmp_path, "llama")
    folders, changes = [], []
    for name, settings in (("dora", {"use_dora": True}), ("lora", {"init_lora_weights": "olora"})):
        made = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], **settings)
        folder, before, merged = tiny.adapter(tiny.model("llama"), tmp_path / name, made)
        folders.append((name, folder))
        changes.append({key: merged[key] - before[key] for key in before})
    store = runs.finished(index, folders, tmp_path / "run", method="mean")
    out = tiny.tensors(export_step(store, 2, tmp_path / "out"))
    for name, value in tiny.tensors(index.root).items():
        close(out[name] - value, value + (changes[0][name] + changes[1][name]) / 2, value, steps=500)
    assert len(store.keys) == 4
    # The same inputs are found again, and the default method takes them.
    assert [source.kind for source in reopen_inputs(store).sources] == ["adapter", "adapter"]
    gcwm = runs.finished(index, folders, tmp_path / "gcwm")
    assert all(gcwm.stored_state(place, 2) is not None for place in range(4))
