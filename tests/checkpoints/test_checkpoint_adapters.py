import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gcwm_viz.checkpoints.adapters import Adapter
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import dense
from tests.checkpoints import tiny

QV = ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen3", {"r": 2, "lora_alpha": 5, "target_modules": QV}),
        ("llama", {"r": 4, "lora_alpha": 3, "target_modules": "all-linear", "use_rslora": True}),
        ("qwen3", {"r": 2, "target_modules": QV, "rank_pattern": {"q_proj": 3}, "alpha_pattern": {"v_proj": 7}}),
        (
            "llama",
            {
                "r": 2,
                "target_modules": QV,
                "rank_pattern": {"v_proj": 5, r"layers\.1\.self_attn\.q_proj": 3, "q_proj": 4},
                "alpha_pattern": {r"^model.layers.0.self_attn.q_proj": 11, r".*\.1\..*v_proj": 2.5},
                "use_rslora": True,
            },
        ),
        ("gpt2", {"r": 2, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
        ("phi3", {"r": 3, "target_modules": ["qkv_proj", "gate_up_proj"]}),
    ],
)
def test_delta_is_what_peft_merges(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    """PEFT itself is the oracle: Δ = merged − base for every adapted module, to float32 rounding."""
    folder, before, merged = tiny.lora(name, tmp_path, **settings)
    adapter = Adapter.open(folder)
    assert adapter.modules
    for module, lora in adapter.modules.items():
        expected = merged[f"{module}.weight"] - before[f"{module}.weight"]
        delta = dense(lora.read(torch.float32, pytest.fail))
        # Conv1D stores the transpose.
        torch.testing.assert_close(delta.mT if name == "gpt2" else delta, expected, rtol=1e-4, atol=1e-5)
    changed = {key for key in before if not torch.equal(before[key], merged[key])}
    assert changed == {f"{module}.weight" for module in adapter.modules}


def test_trained_modules_and_embeddings_are_kept_apart(tmp_path: Path) -> None:
    folder, before, merged = tiny.lora(
        "qwen3-untied", tmp_path, r=2, target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"]
    )
    adapter = Adapter.open(folder)
    assert {module.rsplit(".", 1)[1] for module in adapter.modules} == {"q_proj"}
    (module,) = adapter.embeddings
    expected = merged[f"{module}.weight"] - before[f"{module}.weight"]
    torch.testing.assert_close(
        dense(adapter.embeddings[module].read(torch.float32, pytest.fail)).mT, expected, rtol=1e-4, atol=1e-5
    )
    assert "lm_head.weight" in adapter.replaced


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=QV)[0]


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": None}, "expected peft_type LORA, ADALORA, .*, found 'None'"),
        (
            {"peft_type": "PREFIX_TUNING"},
            r"found 'PREFIX_TUNING'; where peft can merge .* with PeftModel.*merge_and_un",
        ),
        ({"use_dora": True}, "has no lora_magnitude_vector beside it"),
        ({"use_qalora": True}, "use_qalora is set.*peft cannot merge them"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens is set.*no change of the weights does"),
        ({"arrow_config": {"top_k": 2}}, "arrow_config is set.*no change of the weights does"),
        ({"layer_replication": [[0, 2]]}, "layer_replication is set.*layers that the base does not have"),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "'pissa_niter_4' changes the base.*path_initial_model_for_weight_conv",
        ),
        ({"init_lora_weights": "corda"}, "'corda' changes the base.*path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": "loftq"}, r"'loftq' changes the base.*merge it into the weights that it was trained on"),
        ({"r": 3}, r"shapes \(2, 16\) and \(16, 2\), expected rank 3"),
        ({"rank_pattern": {"q_proj": 4}}, "expected rank 4"),
        ({"r": "two"}, "r of .* must be a positive number, found 'two'"),
        ({"r": True}, "must be a positive number"),
        ({"lora_alpha": 0}, "lora_alpha of .* must be a positive number"),
        ({"lora_alpha": None}, "lora_alpha of .* must be a positive number"),
        ({"alpha_pattern": [1]}, "alpha_pattern must map patterns to numbers"),
        ({"alpha_pattern": {"(": 1}}, "no regular expression"),
        ({"alpha_pattern": {"(a+)+b": 1}}, "expected a simpler one"),
        ({"alpha_pattern": {".*.*.*.*x": 1}}, "expected a simpler one"),
        # 2^n ways to fail, which would take for ever: what is tested is that none of them is tried.
        ({"alpha_pattern": {"a?" * 40 + "a" * 40: 1}}, "expected a simpler one"),
        ({"alpha_pattern": {"(a|a)" * 40 + "b": 1}}, "expected a simpler one"),
        ({"alpha_pattern": {"a{0,1}" * 40 + "b": 1}}, "expected a simpler one"),
        ({"alpha_pattern": {"(?:a|aa)+b": 1}}, "expected a simpler one"),
        ({"alpha_pattern": {r"[\]*]?" * 40: 1}}, "expected a simpler one"),
    ],
)
def test_settings_that_are_not_plain_lora(plain: Path, changes: dict[str, Any], says: str) -> None:
    configure(plain, **changes)
    with pytest.raises(InputError, match=says) as caught:
        Adapter.open(plain)
    assert "adapter_config.json" in str(caught.value) or "adapter_model.safetensors" in str(caught.value)


def test_many_patterns_together_are_bounded_too(plain: Path) -> None:
    """Each alone is taken; all of them on every module would take long."""
    alone = ".?" * 21 + "y"
    configure(plain, alpha_pattern={alone: 4})
    assert Adapter.open(plain).modules
    configure(plain, alpha_pattern={f"{alone}{k}": 4 for k in range(100)})
    with pytest.raises(InputError, match="alpha_pattern holds 100 patterns, expected fewer or simpler ones"):
        Adapter.open(plain)


@pytest.mark.parametrize(
    "pattern",
    [
        r"layers\.(0|1)\.self_attn\.q_proj",
        r"model\.layers\.(?:0|1|2|3|4|5|6|7)\.self_attn\.[qk]_proj",
        r".*\.1\..*\.q_proj",
        r"[*+?|()]*q_proj",
        r"(model\.)?layers\.\d+\.self_attn\.q_proj",
        r"layers\.[0-9]{1,2}\.self_attn\.q_proj",
    ],
)
def test_patterns_that_people_write_are_taken(plain: Path, pattern: str) -> None:
    configure(plain, alpha_pattern={pattern: 4})
    assert {lora.scaling for lora in Adapter.open(plain).modules.values()} <= {2.0, 4.0}


def test_tensors_that_the_config_does_not_speak_of(plain: Path) -> None:
    content = load_file(plain / "adapter_model.safetensors")
    name = next(iter(content)).split(".lora_")[0]
    tiny.store(plain, {**content, f"{name}.lora_magnitude_vector": torch.ones(16)}, "adapter_model.safetensors")
    with pytest.raises(InputError, match="belongs to a DoRA adapter"):
        Adapter.open(plain)
    tiny.store(plain, {**content, f"{name}.lora_E": torch.ones(2, 1)}, "adapter_model.safetensors")
    with pytest.raises(InputError, match="belongs to an AdaLoRA adapter"):
        Adapter.open(plain)
    tiny.store(plain, {**content, f"{name}.lora_C.weight": torch.ones(16)}, "adapter_model.safetensors")
    with pytest.raises(InputError, match="no plain LoRA factor"):
        Adapter.open(plain)


def test_a_lone_factor(plain: Path) -> None:
    content = load_file(plain / "adapter_model.safetensors")
    del content[next(name for name in content if "lora_B" in name)]
    tiny.store(plain, content, "adapter_model.safetensors")
    with pytest.raises(InputError, match=r"lora_A.weight' has no partner, expected lora_B too"):
        Adapter.open(plain)


def test_missing_pieces(plain: Path) -> None:
    (plain / "adapter_config.json").rename(plain / "elsewhere.json")
    with pytest.raises(InputError, match=r"adapter_config.json: missing"):
        Adapter.open(plain)
    (plain / "elsewhere.json").rename(plain / "adapter_config.json")
    (plain / "adapter_model.safetensors").rename(plain / "adapter_model.bin")
    with pytest.raises(InputError, match=r"only pickle weights \(adapter_model.bin\).*PeftModel"):
        Adapter.open(plain)
