import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor

from gcwm_viz.checkpoints import atomic
from gcwm_viz.checkpoints.atomic import write_bytes, write_json, write_safetensors
from gcwm_viz.checkpoints.header import read_header
from gcwm_viz.checkpoints.index import CheckpointIndex
from gcwm_viz.checkpoints.writer import export_checkpoint
from gcwm_viz.errors import InputError
from tests.checkpoints import tiny

TARGET = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(params=["qwen3", "qwen3-untied"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointIndex:
    folder = tiny.save(tiny.model(request.param), tmp_path / "base")
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    return CheckpointIndex.open(folder)


def doubled(base: CheckpointIndex) -> Callable[..., Tensor | None]:
    state = tiny.tensors(base.root)
    return lambda name: state[name] * 2 if name == TARGET else None


def load(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.mark.parametrize("max_shard_bytes", [5 * 2**30, 4096])
def test_export_is_a_checkpoint_that_transformers_loads(
    base: CheckpointIndex, tmp_path: Path, max_shard_bytes: int
) -> None:
    out = export_checkpoint(
        base, doubled(base), tmp_path / "out", model_card="# A card\n", max_shard_bytes=max_shard_bytes
    )
    loaded, original = load(out), load(base.root)
    original.state_dict()[TARGET].mul_(2)
    tokens = torch.arange(12).reshape(2, 6)
    assert torch.equal(loaded(tokens).logits, original(tokens).logits)
    tied = base.config["tie_word_embeddings"]
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    assert tiny.tensors(out).keys() == base.tensors.keys()
    shards = sorted(file.name for file in out.glob("*.safetensors"))
    if max_shard_bytes == 4096:
        assert len(shards) > 2
        listed = json.loads((out / "model.safetensors.index.json").read_text())
        assert sorted(set(listed["weight_map"].values())) == shards
        assert listed["metadata"]["total_size"] == sum(info.nbytes for info in base.tensors.values())
        assert all(os.path.getsize(out / shard) < 4096 + 2000 for shard in shards)
    else:
        assert shards == ["model.safetensors"]
        assert not (out / "model.safetensors.index.json").exists()
    assert (out / "README.md").read_text() == "# A card\n"
    assert (out / "tokenizer.json").exists()
    assert (out / "generation_config.json").exists()
    assert not (out / "modeling_evil.py").exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["base", "out"]


def test_export_is_deterministic_and_reads_back_as_the_same_content(base: CheckpointIndex, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export_checkpoint(base, doubled(base), tmp_path / name, model_card="", max_shard_bytes=4096)
    files = sorted(item.name for item in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    export_checkpoint(base, lambda name: None, tmp_path / "same", model_card="")
    assert CheckpointIndex.open(tmp_path / "same").fingerprint() == base.fingerprint()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_export_in_another_precision(base: CheckpointIndex, tmp_path: Path, dtype: torch.dtype) -> None:
    out = export_checkpoint(base, doubled(base), tmp_path / "out", model_card="", dtype=dtype)
    assert {tensor.dtype for tensor in tiny.tensors(out).values()} == {dtype}
    assert json.loads((out / "config.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    assert load(out).dtype == dtype


def test_gpt2_in_its_stored_layout(tmp_path: Path) -> None:
    base = CheckpointIndex.open(tiny.save(tiny.model("gpt2"), tmp_path / "base"))
    out = export_checkpoint(base, lambda name: None, tmp_path / "out", model_card="")
    tokens = torch.arange(6)[None]
    assert torch.equal(load(out)(tokens).logits, load(base.root)(tokens).logits)


@pytest.mark.parametrize(
    ("replacement", "settings", "says"),
    [
        (torch.full((16, 24), float("nan")), {}, f"tensor '{TARGET}' to be written holds NaN"),
        (torch.full((16, 24), 1e6), {"dtype": torch.float16}, "to be written holds an infinite value"),
        (torch.zeros(24, 16), {}, r"shape \(24, 16\), expected \(16, 24\)"),
        (torch.zeros(16, 24), {"dtype": torch.int8}, "cannot export as torch.int8"),
    ],
)
def test_nothing_is_left_when_an_export_fails(
    base: CheckpointIndex, tmp_path: Path, replacement: Tensor, settings: Any, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        export_checkpoint(
            base, lambda name: replacement if name == TARGET else None, tmp_path / "out", model_card="", **settings
        )
    assert sorted(item.name for item in tmp_path.iterdir()) == ["base"]


def test_places_that_are_refused(base: CheckpointIndex, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("keep me")
    (tmp_path / "other").mkdir()
    for out, says in [
        (tmp_path / "full", "expected a new or empty folder"),
        (base.root / "out", "lies inside the input"),
        (base.root, "lies inside the input"),
        (tmp_path / "other" / "deep" / "out", "lies inside the input"),
    ]:
        with pytest.raises(InputError, match=says):
            export_checkpoint(base, lambda name: None, out, model_card="", inputs=[tmp_path / "other"])
    assert [item.name for item in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    assert not (base.root / "out").exists()


def test_an_empty_folder_and_a_dead_process_leftovers_are_taken_over(base: CheckpointIndex, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    leftover = atomic.partial_name(tmp_path / "out")
    (leftover / "sub").mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    out = export_checkpoint(base, lambda name: None, tmp_path / "out", model_card="")
    assert not (out / "sub").exists()
    assert not leftover.exists()


def test_a_second_writer_is_told(tmp_path: Path) -> None:
    with atomic.atomic_folder(tmp_path / "out"):
        second = atomic.atomic_folder(tmp_path / "out")
        with pytest.raises(InputError, match="another process is writing"):
            second.__enter__()
    assert (tmp_path / "out").is_dir()


def test_too_little_space(base: CheckpointIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10))
    with pytest.raises(InputError, match="MB free"):
        export_checkpoint(base, lambda name: None, tmp_path / "out", model_card="")


def test_a_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "a.json", b"old")

    def full(handle: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a.json: cannot write \(no space left on the disk\)"):
        write_bytes(tmp_path / "a.json", b"new")
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("a.json", b"old")]


def test_safetensors_round_trip_with_the_same_bytes(tmp_path: Path) -> None:
    content = {
        "b": torch.randn(3, 5),
        "a": torch.randn(7).to(torch.bfloat16),
        "c": torch.tensor(4),
        "é": torch.zeros(0, 2),
        "d": torch.tensor([True, False]),
        "t": torch.randn(4, 6).mT,
    }
    metadata = {"format": "pt", "x": "1", "y": "2", "z": "3"}
    write_safetensors(tmp_path / "1.safetensors", content, metadata)
    write_safetensors(tmp_path / "2.safetensors", dict(reversed(content.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "1.safetensors").read_bytes() == (tmp_path / "2.safetensors").read_bytes()
    loaded = load_file(tmp_path / "1.safetensors")
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in content.items()
    )
    assert read_header(tmp_path / "1.safetensors")[1] == metadata
    with pytest.raises(InputError, match=r"tensor 'w' to be written holds NaN"):
        write_safetensors(tmp_path / "3.safetensors", {"w": torch.tensor([float("nan")])})
    assert not (tmp_path / "3.safetensors").exists()


def test_json_is_whole_or_absent(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"é": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, 2.5]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()
