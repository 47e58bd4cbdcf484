"""``check`` on deliberately awkward inputs: each is listed before anything is computed, or refused in one sentence."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.cli import main
from gcwm_viz.updates.pairing import target_matrices
from gcwm_viz.updates.sources import open_update
from tests.checkpoints import tiny
from tests.probes.models import bpe_tokenizer

EMBEDDING, HEAD, Q0 = "model.embed_tokens.weight", "lm_head.weight", "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def base(tmp_path: Path) -> CheckpointIndex:
    """A tied Qwen3 with a tokenizer."""
    folder = tiny.save(tiny.model("qwen3"), tmp_path / "base")
    bpe_tokenizer().save_pretrained(folder)
    return CheckpointIndex.open(folder)


@pytest.fixture
def checked(base: CheckpointIndex, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """``check`` of updates by name: its JSON, or the sentence that it ended with."""

    def check(*options: str, **updates: Path) -> Any:
        arguments = [part for name, path in updates.items() for part in ("--update", f"{name}={path}")]
        code = main(["check", "--base", str(base.root), *arguments, "--json", *options])
        said = capsys.readouterr()
        if code == 0:
            return json.loads(said.out)
        assert said.out == ""
        assert len(said.err.strip().splitlines()) == 1
        return said.err.strip()

    return check


def expert(
    base: CheckpointIndex,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    scale: float = 0.1,
    config: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """A full checkpoint: every target moved, single tensors replaced or, where None, left out."""
    content: dict[str, Any] = dict(tiny.tensors(base.root))
    generator = torch.Generator().manual_seed(1)
    for key in target_matrices(base):
        content[key.name] = content[key.name] + scale * torch.randn(key.stored_shape, generator=generator)
    content |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    tiny.store(folder, {name: tensor.to(dtype) for name, tensor in content.items() if tensor is not None})
    (folder / "config.json").write_text(json.dumps(base.config | (config or {})))
    return folder


def notes(found: dict[str, Any]) -> str:
    return "\n".join(found["notes"])


def test_a_resized_vocabulary(base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path) -> None:
    content: dict[str, Any] = {
        EMBEDDING.replace(".", "__"): torch.cat([tiny.tensors(base.root)[EMBEDDING], torch.ones(8, 16)])
    }
    found = checked("--energy", a=expert(base, tmp_path / "a", **content))
    assert (
        f"{EMBEDDING} has shape (48, 16), the base (40, 16); outside the target matrices, where the base's is kept"
        in notes(found)
    )
    # Rows that the base does not have are no change of it.
    assert found["energy"]["a"]["outside_share"] == 0


def test_another_vocabulary_of_the_same_size(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path
) -> None:
    folder = expert(base, tmp_path / "a")
    other = bpe_tokenizer()
    other.add_tokens(["<new>"])
    other.save_pretrained(folder)
    assert "a: another vocabulary than the base's: 1 tokens that the base does not have, 0 missing, 0 under" in notes(
        checked(a=folder)
    )
    bpe_tokenizer().save_pretrained(folder)
    assert "vocabulary" not in notes(checked(a=folder))


def test_an_untied_head(base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path) -> None:
    content: dict[str, Any] = {HEAD.replace(".", "__"): torch.ones(40, 16)}
    found = checked(a=expert(base, tmp_path / "a", config={"tie_word_embeddings": False}, **content))
    assert "a: has output embeddings of their own, the base ties input and output embeddings" in notes(found)
    assert f"1 tensors that the base does not have are ignored: {HEAD}" in notes(found)
    assert found["updates"][0]["extra"] == 1


def test_missing_and_extra_tensors(base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path) -> None:
    content: dict[str, Any] = {Q0.replace(".", "__"): None, "model__layers__0__extra__bias": torch.ones(3)}
    found = checked(a=expert(base, tmp_path / "a", **content))
    assert found["warnings"] == [f"a: 1 of 14 target matrices are not in it ({Q0}, …) and count as untouched"]
    assert "1 tensors that the base does not have are ignored: model.layers.0.extra.bias" in notes(found)


def test_the_share_of_energy_outside_the_targets(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path
) -> None:
    moved = tiny.tensors(base.root)[EMBEDDING] + 1
    content: dict[str, Any] = {EMBEDDING.replace(".", "__"): moved}
    folder = expert(base, tmp_path / "a", **content)
    found = checked("--energy", a=folder)
    update: Any = open_update("a", folder, base)
    inside = sum(float(update.delta(key).square().sum()) for key in target_matrices(base))
    share = moved.numel() / (moved.numel() + inside)
    assert found["energy"]["a"]["outside_share"] == pytest.approx(share, rel=1e-5)
    sentence = f"a: {share:.1%} of its energy lies outside the target matrices and is not merged"
    assert f"{sentence}: embeddings {share:.1%}" in notes(found)
    assert checked(a=folder)["energy"] == {}


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 0.01), (torch.float16, 0.001)])
def test_rounding_of_half_precision(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path, dtype: torch.dtype, limit: float
) -> None:
    """Weights of about 0.02 that moved by 1e-3: bfloat16 loses some per cent of that, float16 an eighth as much."""
    found = checked("--energy", a=expert(base, tmp_path / "a", dtype, scale=1e-3))
    rounding = found["energy"]["a"]["rounding"]
    assert rounding > limit
    assert (f"a: half-precision rounding is {rounding:.1%} of this update" in notes(found)) == (rounding > 0.01)


def test_an_adapter_with_more_than_linear_layers(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path
) -> None:
    folder, _, _ = tiny.lora("qwen3", tmp_path / "a", r=2, target_modules=["q_proj", "embed_tokens"])
    found = checked("--energy", a=folder)
    assert f"a: 1 tensors outside the target matrices are ignored: embeddings 1 ({EMBEDDING}, …)" in notes(found)
    assert 0 < found["energy"]["a"]["outside_share"] < 1
    assert found["energy"]["a"]["rounding"] is None


def test_the_same_folder_twice(base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path) -> None:
    folder = expert(base, tmp_path / "a")
    assert checked(a=folder, b=folder)["warnings"] == [f"b and a are the same folder, {folder}"]


def test_a_checkpoint_without_the_heads_prefix(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path
) -> None:
    content = {name.removeprefix("model."): tensor + 0.1 for name, tensor in tiny.tensors(base.root).items()}
    tiny.store(tmp_path / "a", content)
    found = checked(a=tmp_path / "a")
    assert found["updates"][0]["matrices"] == 14
    assert any("no config.json" in warning for warning in found["warnings"])


def test_an_adapter_upon_a_checkpoint(base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path) -> None:
    """MODEL+ADAPTER: the sum of both updates; upon the base itself the adapter alone."""
    model = expert(base, tmp_path / "model")
    adapter, _, _ = tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=["q_proj"])
    found = checked("--energy", a=f"{model}+{adapter}", b=f"{base.root}+{adapter}")
    assert [row["kind"] for row in found["updates"]] == ["checkpoint+adapter", "adapter"]
    assert [row["matrices"] for row in found["updates"]] == [14, 2]
    stacked: Any
    upon: Any
    alone: Any
    stacked, upon, alone = (open_update("a", path, base) for path in (f"{model}+{adapter}", model, adapter))
    assert stacked.folders == [model, adapter]
    assert stacked.path.name == "adapter"
    for key in target_matrices(base):
        added = alone.delta(key)
        again: Any = open_update("a", stacked.path, base)
        expected = upon.delta(key) + (0 if added is None else added.dense())
        torch.testing.assert_close(stacked.delta(key), expected, rtol=1e-6, atol=1e-6)
        assert torch.equal(again.delta(key), stacked.delta(key))
    assert len({source.fingerprint() for source in (stacked, upon, alone)}) == 3
    norm = math.sqrt(sum(float(stacked.delta(key).square().sum()) for key in target_matrices(base)))
    assert found["energy"]["a"]["target_norm"] == pytest.approx(norm, rel=1e-5)
    # A folder whose name has a + in it is a folder.
    expert(base, tmp_path / "c+plus+model")
    assert checked(a=tmp_path / "c+plus+model")["updates"][0]["kind"] == "checkpoint"


def test_what_is_no_adapter_upon_a_checkpoint(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path
) -> None:
    model = expert(base, tmp_path / "model")
    adapter, _, _ = tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=["q_proj"])
    assert "expected an adapter after the +" in checked(a=f"{model}+{model}")
    assert "expected a full checkpoint before the +" in checked(a=f"{adapter}+{adapter}")
    assert "found nothing" in checked(a=f"{model}+{tmp_path / 'none'}")


def test_a_run_inside_a_stacked_input_is_refused(
    base: CheckpointIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = expert(base, tmp_path / "model")
    adapter, _, _ = tiny.lora("qwen3", tmp_path / "adapter", r=2, target_modules=["q_proj"])
    update = f"a={model}+{adapter}"
    for inside in (model, adapter):
        arguments = ["run", "--base", str(base.root), "--update", update, "--out", str(inside / "run")]
        assert main(arguments) == 2
        assert f"lies inside the input {inside}" in capsys.readouterr().err


def test_experts_are_families_of_their_own(
    checked: Callable[..., Any], base: CheckpointIndex, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, family in (("qwen3-moe", "experts.2.gate_proj"), ("mixtral", "experts.2.w1")):
        folder = tiny.save(tiny.model(name), tmp_path / name)
        other = tiny.save(tiny.model(name, seed=1), tmp_path / f"{name}-expert")
        assert main(["check", "--base", str(folder), "--update", f"a={other}", "--json"]) == 0
        families = {row["family"]: row for row in json.loads(capsys.readouterr().out)["families"]}
        assert (families[family]["matrices"], families[family]["a"]) == (2, 2)
        assert families["gate"]["d_out"] == 3  # the router


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "only pickle weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"12345678"), "header"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "llama"}'),
            "another architecture, expected model_type",
        ),
        (lambda f: tiny.store(f, {Q0: torch.zeros(16, 12)}), r"has shape (16, 12), expected (16, 16)"),
        (
            lambda f: tiny.store(f, {Q0: torch.zeros(16, 16).to(torch.int8)}),
            "of dtype I8 and shape (16, 16)), expected F64, F32, F16 or BF16; dequantise them first",
        ),
        (lambda f: tiny.store(f, {"x.weight": torch.zeros(2, 2)}), "touches no target matrix"),
        (lambda f: tiny.store(f, {f"{Q0}.lora_A": torch.zeros(2, 2)}), "adapter_config.json: missing"),
    ],
)
def test_what_is_refused(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path, spoil: Any, says: str
) -> None:
    folder = expert(base, tmp_path / "a")
    spoil(folder)
    assert says in checked(a=folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_dora": True}, "has no lora_magnitude_vector beside it"),
        ({"init_lora_weights": "corda"}, "changes the base weights"),
        ({"peft_type": "LILY"}, "found 'LILY'; where peft can merge it"),
        ({"r": 3}, "expected rank 3"),
    ],
)
def test_adapters_that_are_refused(
    base: CheckpointIndex, checked: Callable[..., Any], tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    folder, _, _ = tiny.lora("qwen3", tmp_path / "a", r=2, target_modules=["q_proj"])
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert says in checked(a=folder)


def test_an_adapter_for_another_base(checked: Callable[..., Any], tmp_path: Path) -> None:
    folder, _, _ = tiny.lora("gpt2", tmp_path / "a", r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    assert "this adapter is for another base" in checked(a=folder)
