import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.errors import InputError
from gcwm_viz.linalg.lowrank import LowRank, dense
from gcwm_viz.updates import energy
from gcwm_viz.updates.groups import GROUPS, column, group
from gcwm_viz.updates.matrices import MatrixKey
from gcwm_viz.updates.outside import outside_share, share_notes
from gcwm_viz.updates.pairing import open_update, target_matrices
from tests.checkpoints import tiny

Q0 = "model.layers.0.self_attn.q_proj.weight"
K1 = "model.layers.1.self_attn.k_proj.weight"


def moved(base: CheckpointIndex, names: Iterable[str], scale: float = 0.1, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = tiny.tensors(base.root)
    return {
        name: tensor + scale * torch.randn(tensor.shape, generator=generator) if name in names else tensor
        for name, tensor in state.items()
    }


def expert(
    base: CheckpointIndex, folder: Path, names: Iterable[str], dtype: torch.dtype = torch.float32, **settings: int
) -> dict[str, Tensor]:
    content = {name: tensor.to(dtype) for name, tensor in moved(base, names, **settings).items()}
    tiny.store(folder, content)
    (folder / "config.json").write_text(json.dumps(base.config))
    return content


def test_checkpoint_delta_and_frozen_matrices(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    content = expert(base, tmp_path, {Q0, K1})
    source: Any = open_update("math", tmp_path, base)
    assert source.kind == "checkpoint"
    assert source.touched(keys) == keys
    original = tiny.tensors(base.root)
    for key in keys:
        delta = source.delta(key)
        if key.name in (Q0, K1):
            assert torch.equal(delta, content[key.name] - original[key.name])
        else:
            assert delta is None
    exact = source.delta(keys[0], torch.float64)
    assert torch.equal(exact, content[Q0].double() - original[Q0].double())


def test_sharded_half_precision_checkpoint(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    a_model = tiny.model("qwen3", seed=5).to(torch.bfloat16)
    source: Any = open_update("x", tiny.save(a_model, tmp_path, max_shard_size="4KB"), base)
    original = tiny.tensors(base.root)
    state = a_model.state_dict()
    for key in keys:
        assert torch.equal(source.delta(key), state[key.name].float() - original[key.name])


@pytest.mark.parametrize("marked_in", ["file", "folder"])
def test_update_tensors_are_the_update(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path, marked_in: str
) -> None:
    content = {Q0: torch.randn(16, 16).half(), K1: torch.zeros(8, 16).half()}
    if marked_in == "file":
        tiny.store(tmp_path, content, "update.safetensors", gcwm_viz="update")
        path = tmp_path / "update.safetensors"
    else:
        path = tiny.store(tmp_path, content, "update.safetensors")
        (path / "update.json").write_text('{"format": "gcwm_viz.update"}')
    source: Any = open_update("x", path, base)
    assert source.kind == "delta"
    assert [key.name for key in source.touched(keys)] == [Q0, K1]
    assert torch.equal(source.delta(keys[0]), content[Q0].float())
    assert all(source.delta(key) is None for key in keys if key.name != Q0)


def test_adapter_delta_stays_factored(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    folder, before, merged = tiny.lora("qwen3", tmp_path, r=2, target_modules=["q_proj", "v_proj"])
    source: Any = open_update("x", folder, base)
    assert source.kind == "adapter"
    assert {key.family for key in source.touched(keys)} == {"q_proj", "v_proj"}
    for key in keys:
        delta = source.delta(key)
        if key.family in ("q_proj", "v_proj"):
            assert isinstance(delta, LowRank)
            assert delta.rank == 2
            torch.testing.assert_close(delta.dense(), merged[key.name] - before[key.name], rtol=1e-4, atol=1e-5)
        else:
            assert delta is None


def test_untrained_adapter_touches_nothing(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    import peft

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *a, **k: None)
        peft.get_peft_model(tiny.model("qwen3"), peft.LoraConfig(r=2, target_modules=["q_proj"])).save_pretrained(
            str(tmp_path)
        )
    source: Any = open_update("x", tmp_path, base)
    assert all(source.delta(key) is None for key in source.touched(keys))


def test_gpt2_updates_come_in_linear_layout(tmp_path: Path) -> None:
    index = CheckpointIndex.open(tiny.save(tiny.model("gpt2"), tmp_path / "base"))
    folder, before, merged = tiny.lora(
        "gpt2", tmp_path / "adapter", r=2, target_modules=["c_attn"], fan_in_fan_out=True
    )
    name = "transformer.h.1.attn.c_attn.weight"
    change = merged[name] - before[name]
    tiny.store(tmp_path / "delta", {name: change}, gcwm_viz="update")
    tiny.store(tmp_path / "full", {key: tensor for key, tensor in merged.items() if key in index.tensors})
    (tmp_path / "full" / "config.json").write_text(json.dumps(index.config))
    key = next(key for key in target_matrices(index) if key.name == name)
    for path in (folder, tmp_path / "delta", tmp_path / "full"):
        update: Any = open_update("x", path, index)
        delta = dense(update.delta(key))
        assert delta.shape == key.shape == (48, 16)
        torch.testing.assert_close(key.from_linear(delta), change, rtol=1e-4, atol=1e-5)


def test_a_prefix_does_not_hide_the_match(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    content = {name.removeprefix("model."): tensor for name, tensor in moved(base, {Q0}).items()}
    tiny.store(tmp_path / "headless", content)
    source: Any = open_update("x", tmp_path / "headless", base)
    assert source.delta(keys[0]) is not None
    headless = CheckpointIndex.open(tmp_path / "headless")
    folder, _, _ = tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=["q_proj"])
    adapter = open_update("y", folder, headless)
    assert len(adapter.touched(target_matrices(headless))) == 2


def test_non_finite_values_are_named(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    content = moved(base, {Q0})
    content[Q0][2, 3] = float("nan")
    source: Any = open_update("x", tiny.store(tmp_path / "a", content), base)
    with pytest.raises(InputError, match=rf"tensor '{Q0}' holds NaN at \(2, 3\)"):
        source.delta(keys[0])
    with pytest.raises(InputError, match="holds NaN"):
        outside_share(base, source, keys)
    huge = tiny.store(tmp_path / "b", {Q0: torch.full((16, 16), 1e300, dtype=torch.float64)}, gcwm_viz="update")
    with pytest.raises(InputError, match=rf"the update of '{Q0}' in float32 holds an infinite value"):
        open_update("x", huge, base).delta(keys[0])


def test_fingerprints_tell_updates_apart(base: CheckpointIndex, tmp_path: Path) -> None:
    expert(base, tmp_path / "a", {Q0})
    expert(base, tmp_path / "b", {Q0}, seed=2)
    expert(base, tmp_path / "c", {Q0})
    prints = [open_update("x", tmp_path / name, base).fingerprint() for name in "abc"]
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", "x" * 101, "state"])
def test_names_that_tables_and_files_cannot_bear(base: CheckpointIndex, name: str) -> None:
    with pytest.raises(InputError, match="update name"):
        open_update(name, base.root, base)


def test_update_mark_must_be_whole(base: CheckpointIndex, tmp_path: Path) -> None:
    tiny.store(tmp_path, {Q0: torch.ones(16, 16)}, "a.safetensors", gcwm_viz="update")
    tiny.store(tmp_path, {K1: torch.ones(8, 16)}, "b.safetensors")
    with pytest.raises(InputError, match=r"b.safetensors: not marked as an update"):
        open_update("x", tmp_path, base)
    (tmp_path / "update.json").write_text('{"format": "other"}')
    with pytest.raises(InputError, match=r"expected format 'gcwm_viz.update', found 'other'"):
        open_update("x", tmp_path, base)


def test_outside_share_of_a_checkpoint(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcwm_viz.checkpoints.reader.SLICE_ELEMENTS", 100)
    names = {Q0, "model.embed_tokens.weight", "model.norm.weight"}
    content = expert(base, tmp_path, names)
    original = tiny.tensors(base.root)
    squares = {name: float((content[name].double() - original[name].double()).square().sum()) for name in names}
    found = outside_share(base, open_update("x", tmp_path, base), keys)
    assert found["total_norm"] == pytest.approx(math.sqrt(sum(squares.values())))
    assert found["target_norm"] == pytest.approx(math.sqrt(squares[Q0]))
    assert found["outside_share"] == pytest.approx(1 - squares[Q0] / sum(squares.values()))
    assert math.isnan(found["rounding"])


def test_outside_share_by_group(tmp_path: Path) -> None:
    """A GPT-2 that moved in its embeddings, norms and biases; the parts add up to the whole."""
    index = CheckpointIndex.open(tiny.save(tiny.model("gpt2"), tmp_path / "base"))
    names = {
        "biases": {"transformer.h.0.attn.c_attn.bias", "transformer.h.1.ln_1.bias"},
        "embeddings": {"transformer.wte.weight", "transformer.wpe.weight"},
        "norms": {"transformer.h.0.ln_2.weight", "transformer.ln_f.weight"},
    }
    target = "transformer.h.0.mlp.c_fc.weight"
    content = expert(index, tmp_path / "x", {target}.union(*names.values()))
    original = tiny.tensors(index.root)
    squares = {name: float((content[name].double() - original[name].double()).square().sum()) for name in content}
    total = sum(squares.values())
    found = outside_share(index, open_update("x", tmp_path / "x", index), target_matrices(index))
    for part, held in names.items():
        assert found[column(part)] == pytest.approx(sum(squares[name] for name in held) / total)
    assert found["outside_head"] == found["outside_other"] == 0
    assert sum(found[column(part)] for part in GROUPS) == pytest.approx(found["outside_share"])
    (note,) = share_notes(found)
    assert note == (
        f"{found['outside_share']:.1%} of its energy lies outside the target matrices and is not merged: "
        f"embeddings {found['outside_embeddings']:.1%}, biases {found['outside_biases']:.1%}, "
        f"norms {found['outside_norms']:.1%}"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.0.self_attn.q_proj.bias", "biases"),
        ("model.norm.bias", "biases"),
        ("final_logits_bias", "biases"),
        ("lm_head.weight", "head"),
        ("embed_out.weight", "head"),
        ("language_model.lm_head.weight", "head"),
        ("model.embed_tokens.weight", "embeddings"),
        ("backbone.embeddings.weight", "embeddings"),
        ("transformer.wte.weight", "embeddings"),
        ("shared.weight", "embeddings"),
        ("model.layers.0.input_layernorm.weight", "norms"),
        ("transformer.h.0.ln_1.weight", "norms"),
        ("backbone.norm_f.weight", "norms"),
        ("backbone.layers.0.mixer.A_log", "other"),
        ("vision_tower.encoder.layers.0.mlp.fc1.weight", "other"),
    ],
)
def test_groups_go_by_name(name: str, expected: str) -> None:
    assert group(name) == expected


def test_outside_share_of_an_adapter(tmp_path: Path) -> None:
    index = CheckpointIndex.open(tiny.save(tiny.model("qwen3-untied"), tmp_path / "base"))
    folder, before, merged = tiny.lora(
        "qwen3-untied", tmp_path / "adapter", r=2, target_modules=["q_proj", "embed_tokens", "lm_head"]
    )
    squares = {name: float((merged[name] - before[name]).double().square().sum()) for name in before}
    found = outside_share(index, open_update("x", folder, index), target_matrices(index))
    inside = sum(square for name, square in squares.items() if "q_proj" in name)
    assert found["target_norm"] == pytest.approx(math.sqrt(inside), rel=1e-5)
    assert found["total_norm"] == pytest.approx(math.sqrt(sum(squares.values())), rel=1e-5)


def test_outside_share_of_nothing_is_undefined(base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path) -> None:
    expert(base, tmp_path, set())
    found = outside_share(base, open_update("x", tmp_path, base), keys)
    assert (found["total_norm"], found["target_norm"]) == (0, 0)
    assert math.isnan(found["outside_share"])
    assert math.isnan(found["rounding"])


@pytest.mark.parametrize(("dtype", "scale"), [(torch.bfloat16, 0.01), (torch.float16, 0.002)])
def test_rounding_estimate_is_the_rounding_error(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path, dtype: torch.dtype, scale: float
) -> None:
    """A base that the format holds exactly, an expert rounded to it: the estimate meets the error within 10 %."""
    exact = {name: tensor.to(dtype) for name, tensor in tiny.tensors(base.root).items()}
    exact = {name: tensor * 8 for name, tensor in exact.items()}
    rounded_base = CheckpointIndex.open(tiny.store(tmp_path / "base", exact))
    generator = torch.Generator().manual_seed(3)
    truth = {key.name: scale * torch.randn(key.shape, generator=generator) for key in keys}
    full = {name: tensor.float() + truth.get(name, 0) for name, tensor in exact.items()}
    stored = {name: tensor.to(dtype) for name, tensor in full.items()}
    source: Any = open_update("x", tiny.store(tmp_path / "x", stored), rounded_base)
    found = outside_share(rounded_base, source, keys)
    error = sum(float((stored[key.name].double() - full[key.name].double()).square().sum()) for key in keys)
    assert found["rounding"] == pytest.approx(math.sqrt(error) / found["target_norm"], rel=0.1)


def test_rounding_is_said_of_every_matrix_and_of_both_ends_of_an_increment(
    base: CheckpointIndex, keys: list[MatrixKey], tmp_path: Path
) -> None:
    halves, exact = [], []
    for step, (names, seed) in enumerate((({Q0, K1}, 1), ({K1}, 2))):
        exact.append(expert(base, tmp_path / f"exact-{step}", names, seed=seed))
        expert(base, tmp_path / str(step), names, torch.bfloat16, seed=seed)
        halves.append(tiny.tensors(tmp_path / str(step)))
    found: dict[str, float] = {}
    outside_share(base, open_update("x", f"{tmp_path / '0'}..{tmp_path / '1'}", base), keys, found)
    assert found.keys() == {Q0, K1}  # what no training moved was rounded to the same numbers
    error = (halves[1][K1].float() - exact[1][K1]) - (halves[0][K1].float() - exact[0][K1])
    change = halves[1][K1].float() - halves[0][K1].float()
    # A uniform error, of a few hundred weights.
    assert found[K1] == pytest.approx(float(error.norm() / change.norm()), rel=0.2)


def test_rounding_of_wider_formats_is_not_applicable(base: CheckpointIndex) -> None:
    info = base.tensors[Q0]
    assert energy.squared_rounding(info) == 0
